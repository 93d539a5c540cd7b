"""The few endpoints of a model hub that headers are read from, over a real socket: model info, and files by range."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar


@dataclass
class ServedHub:
    """A hub with one model. `requests` are method and path; `weight_bytes_sent` counts bodies of safetensors files."""

    directory: Path
    model: str
    commit: str
    url: str = ""
    requests: list[str] = field(default_factory=list)
    weight_bytes_sent: int = 0


class HubAnswer(BaseHTTPRequestHandler):
    """One request; a subclass with its own `served` is made for each hub."""

    protocol_version = "HTTP/1.1"
    served: ClassVar[ServedHub]

    def do_GET(self) -> None:
        self.served.requests.append(f"{self.command} {self.path}")
        path = self.path.split("?", maxsplit=1)[0]
        file = re.fullmatch(rf"/{self.served.model}/resolve/[^/]+/(.+)", path)
        if re.fullmatch(rf"/api/models/{self.served.model}(/revision/[^/]+)?", path):
            names = sorted(file.name for file in self.served.directory.iterdir() if file.is_file())
            told = {"id": self.served.model, "sha": self.served.commit}
            self._send(200, json.dumps(told | {"siblings": [{"rfilename": name} for name in names]}).encode())
        elif file and (self.served.directory / file.group(1)).is_file():
            self._file(self.served.directory / file.group(1))
        else:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound" if file else "RepoNotFound"})

    do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    def _file(self, file: Path) -> None:
        content = file.read_bytes()
        headers = {"ETag": f'"{file.name}"', "X-Repo-Commit": self.served.commit}
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked:
            begin, end = int(asked.group(1)), min(int(asked.group(2)), len(content) - 1)
            headers["Content-Range"] = f"bytes {begin}-{end}/{len(content)}"
            content = content[begin : end + 1]
        if file.suffix in (".safetensors", ".gguf") and self.command == "GET":
            self.served.weight_bytes_sent += len(content)
        self._send(206 if asked else 200, content, headers)

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Tests read `requests`."""


@contextmanager
def hub(directory: Path, model: str, commit: str) -> Iterator[ServedHub]:
    """Serve the files of `directory` as `model` at `commit` while the context lasts."""
    served = ServedHub(directory, model, commit)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Answer", (HubAnswer,), {"served": served}))
    served.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
