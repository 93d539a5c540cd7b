"""A model hub on loopback that ``huggingface_hub`` itself talks to: models with revisions, and a script of how it misbehaves."""

import hashlib
import json
import os
import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

MIB = 1024**2


@dataclass
class Model:
    """``OWNER/NAME`` at one commit; safetensors files are large files, the others plain ones."""

    name: str
    files: dict[str, bytes]
    commit: str = "a" * 40
    gated: bool = False

    @property
    def size(self) -> int:
        return sum(map(len, self.files.values()))

    def tree(self) -> list[dict[str, object]]:
        return [self._entry(path, content) for path, content in self.files.items()]

    def _entry(self, path: str, content: bytes) -> dict[str, object]:
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        entry: dict[str, object] = {"type": "file", "path": path, "size": len(content), "oid": blob}
        if path.endswith(".safetensors"):
            entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
        return entry


def a_model(name: str = "lab/tiny", shards: int = 2, shard_bytes: int = 4 * MIB, seed: int = 1) -> Model:
    """A model whose shards hold bytes that no other shard holds."""
    files = {"config.json": json.dumps({"architectures": ["Tiny"], "seed": seed}).encode()}
    for number in range(1, shards + 1):
        block = hashlib.sha512(f"{seed} {number}".encode()).digest()
        files[f"model-{number:05}-of-{shards:05}.safetensors"] = (block * (shard_bytes // len(block) + 1))[:shard_bytes]
    return Model(name, files)


@dataclass
class Hub:
    """What it serves, what was asked, and how it behaves."""

    models: dict[str, Model] = field(default_factory=dict)
    url: str = ""
    requests: list[str] = field(default_factory=list)
    # Who asked, as they said it.
    authorizations: set[str] = field(default_factory=set)
    # By path: the byte at which each request began.
    ranges: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    # By path: answers (status, headers) that come before the real one.
    refusals: defaultdict[str, list[tuple[int, dict[str, str]]]] = field(default_factory=lambda: defaultdict(list))
    # By path: how many times one byte is changed on the way.
    damaged: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    # By path: after this share the answer waits until `go_on` is set.
    held: dict[str, float] = field(default_factory=dict)
    go_on: threading.Event = field(default_factory=threading.Event)
    is_holding: threading.Event = field(default_factory=threading.Event)

    def serve(self, *models: Model) -> None:
        self.models.update({model.name: model for model in models})

    def fetched(self) -> list[str]:
        """The files of which bytes were asked for, each time."""
        return [line.rsplit("/", 1)[-1] for line in self.requests if "/resolve/" in line and line.startswith("GET")]


class HubAnswer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: ClassVar[Hub]

    def do_GET(self) -> None:
        path = self.path.split("?", maxsplit=1)[0]
        self.hub.requests.append(f"{self.command} {path}")
        self.hub.authorizations.add(self.headers.get("Authorization", ""))
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/([^/]+)/?", path):
            self._about(path, *match.groups())
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._file(*match.groups())
        else:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    def _about(self, path: str, name: str, what: str, revision: str) -> None:
        model = self.hub.models.get(name)
        if self._refused(path.rsplit("/", 1)[0].rsplit("/", 1)[-1]):
            return
        if model is None:
            # As the hub does for names that it does not tell about.
            self._send(401, b"", {"X-Error-Code": "RepoNotFound"})
        elif model.gated:
            self._send(403, b"", {"X-Error-Code": "GatedRepo"})
        elif revision not in ("main", model.commit):
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        elif what == "tree":
            self._send(200, json.dumps(model.tree()).encode(), {"Content-Type": "application/json"})
        else:
            about = {"id": name, "sha": model.commit, "siblings": []}
            self._send(200, json.dumps(about).encode(), {"Content-Type": "application/json"})

    def _file(self, name: str, revision: str, path: str) -> None:
        model = self.hub.models[name]
        assert revision == model.commit, "files are asked for by commit"
        if self._refused(path):
            return
        content = model.files[path]
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        begin = int(asked.group(1)) if asked else 0
        self.hub.ranges[path].append(begin)
        headers = {"Content-Range": f"bytes {begin}-{len(content) - 1}/{len(content)}"} if asked else {}
        rest = content[begin:]
        if self.hub.damaged[path] > 0:
            self.hub.damaged[path] -= 1
            rest = rest[:-1] + bytes([rest[-1] ^ 1])
        self._send(206 if asked else 200, rest, headers, hold_at=int(self.hub.held.get(path, 1.0) * len(rest)))

    def _refused(self, what: str) -> bool:
        if not self.hub.refusals[what]:
            return False
        status, headers = self.hub.refusals[what].pop(0)
        self._send(status, b"", headers)
        return True

    def _send(self, status: int, content: bytes, headers: dict[str, str], hold_at: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = len(content) if hold_at is None else hold_at
        try:
            self.wfile.write(content[:cut])
            if cut < len(content):
                self.hub.is_holding.set()
                self.hub.go_on.wait(60)
                self.wfile.write(content[cut:])
        except OSError:
            # The other side went away, as it may.
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Tests read `requests`."""


@contextmanager
def model_hub(*models: Model) -> Iterator[Hub]:
    """A hub with ``models``; whoever is started meanwhile finds it by the environment."""
    hub = Hub()
    hub.serve(*models)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Answer", (HubAnswer,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    before = os.environ.get("HF_ENDPOINT")
    os.environ["HF_ENDPOINT"] = hub.url
    try:
        yield hub
    finally:
        if before is None:
            del os.environ["HF_ENDPOINT"]
        else:
            os.environ["HF_ENDPOINT"] = before
        hub.go_on.set()
        server.shutdown()
        thread.join()
        server.server_close()


def files_of(folder: Path) -> dict[str, bytes]:
    """What an engine would find in ``folder``."""
    paths = [path for path in folder.rglob("*") if path.is_file() and ".studio" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}
