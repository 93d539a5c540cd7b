"""Secrets reach the engine, the hub and the provider, and are nowhere else: in no table, log, file, span or command line."""

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import asyncpg
import httpx
import psutil
import pytest
from fakes.model_hub import Hub, a_model, model_hub
from fakes.whole_system import System, eventually, running_system
from studio_coordinator.embedded_postgres import prepare

ENGINE, TOKEN, PROVIDER = (f"{name}-sentinel-{os.urandom(6).hex()}" for name in ("engine", "hf", "provider"))
SENTINELS = {"engine": ENGINE, "hub": TOKEN, "provider": PROVIDER}
MANIFEST = """\
kind: Recipe
name: tiny
model: {source: hf://lab/tiny, token_secret: hub}
engine: {name: demo}
resources: {gpu: {count: 0}}
secrets: {THIRD_PARTY_KEY: engine}
---
kind: Deployment
name: tiny
recipe: tiny
"""


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with model_hub(a_model()) as served:
        yield served


class Listener:
    """A provider that repeats in its refusal what it was called with, and a collector of spans."""

    def __init__(self) -> None:
        self.authorizations: list[str] = []
        self.spans: list[bytes] = []
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/v1/traces":
                    listener.spans.append(body)
                    self._answer(200, b"")
                else:
                    authorization = self.headers["Authorization"]
                    listener.authorizations.append(authorization)
                    refusal = {"error": {"message": f"not with {authorization}", "code": "odd", "param": authorization}}
                    self._answer(400, json.dumps(refusal).encode())

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture(scope="module")
def listener() -> Iterator[Listener]:
    listening = Listener()
    thread = threading.Thread(target=listening.server.serve_forever)
    thread.start()
    yield listening
    listening.server.shutdown()
    thread.join()
    listening.server.server_close()


@pytest.fixture(scope="module")
def system(hub: Hub, listener: Listener, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    assert hub.url
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", listener.url)
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
        with running_system(tmp_path_factory.mktemp("home")) as running:
            yield running


def holders(text: bytes) -> list[str]:
    return [
        name for name, value in SENTINELS.items() if value.encode() in text or value.encode().hex().encode() in text
    ]


def in_files(folder: Path) -> list[str]:
    """Every file of the installation, PostgreSQL's own with its write-ahead log among them."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file():
            try:
                found += [f"{path}: {name}" for name in holders(path.read_bytes())]
            except FileNotFoundError:
                continue
    return found


def in_command_lines() -> list[str]:
    found = []
    for process in psutil.process_iter():
        try:
            found += [f"{process.pid}: {name}" for name in holders(" ".join(process.cmdline()).encode())]
        except psutil.Error:
            continue
    return found


async def dump(url: str) -> bytes:
    """All rows of all tables as text."""
    conn = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        tables = await conn.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        rows = [await conn.fetch(f'SELECT "{name}"::text FROM "{name}"') for (name,) in tables]  # noqa: S608 - its own names
    finally:
        await conn.close()
    return repr(rows).encode()


@pytest.mark.timeout(240)
def test_secrets_go_where_they_are_needed_and_nowhere_else(system: System, hub: Hub, listener: Listener) -> None:
    for name, value in SENTINELS.items():
        system.studio("secrets", "put", name, stdin=value + "\n")
    system.studio(
        *("providers", "add", "other", "openai/x", "--key-secret", "provider", "--api-base", f"{listener.url}/v1")
    )
    system.studio("apply", "-f", "-", stdin=MANIFEST)
    replica = system.ready_replica("tiny-1")
    host = system.listed("hosts")[0]["name"]
    # They arrived.
    assert psutil.Process(replica["pid"]).environ()["THIRD_PARTY_KEY"] == ENGINE
    assert f"Bearer {TOKEN}" in hub.authorizations
    headers = {"Authorization": f"Bearer {system.up['api_key']}"}
    body = {"model": "other", "messages": [{"role": "user", "content": "hi"}]}

    def refused_by_the_provider() -> bool:
        answer = httpx.post(f"{system.up['gateway_url']}/v1/chat/completions", json=body, headers=headers, timeout=30)
        assert not holders(answer.content)
        return answer.json()["error"]["code"] not in ("provider_key_missing", "model_not_found")

    eventually(refused_by_the_provider)
    assert f"Bearer {PROVIDER}" in listener.authorizations
    # A model's name is a client's to choose; one that is a key by mistake is no reason to keep it.
    mistaken = f"sk-{'a' * 12}-{'b' * 43}"
    httpx.post(f"{system.up['gateway_url']}/v1/chat/completions", json=body | {"model": mistaken}, headers=headers)
    # They are nowhere else.
    for command in (
        ("secrets", "-o", "json"),
        ("recipes", "show", "tiny", "-o", "json"),
        ("export",),
        ("audit", "list", "--limit", "500", "-o", "json"),
        ("events", "--limit", "500", "-o", "json"),
        ("describe", "tiny", "-o", "json"),
        ("describe", "tiny-1", "-o", "json"),
        ("describe", host, "-o", "json"),
        ("hosts", "-o", "json"),
        ("models", "list", "-o", "json"),
        ("providers", "-o", "json"),
        ("logs", "tiny-1"),
        ("whoami",),
    ):
        assert holders(system.studio(*command).stdout.encode()) == [], command
    for address in system.up["metrics"].values():
        assert holders(httpx.get(f"http://{address}/metrics").content) == []
    for name in (b"gateway.request", b"coordinator.PutSecret", b"coordinator.Apply"):
        assert eventually(lambda name=name: any(name in sent for sent in listener.spans)), name
    assert holders(b"".join(listener.spans)) == []
    assert mistaken.encode() not in b"".join(listener.spans)
    assert holders(asyncio.run(dump(prepare(system.home / "pg").url))) == []
    assert in_command_lines() == []
    assert in_files(system.home) == []
    assert "as they were written" in system.studio("audit", "verify").stdout
    adopted_without_asking_for_its_secrets(system)


def adopted_without_asking_for_its_secrets(system: System) -> None:
    before = system.ready_replica("tiny-1")
    agent = system.pid("agent")
    psutil.Process(agent).kill()
    eventually(lambda: system.pid("agent") != agent)
    assert system.ready_replica("tiny-1")["pid"] == before["pid"]
