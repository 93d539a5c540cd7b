"""``studio up --detach`` and ``studio down`` with the real roles: a request is answered, and nothing is left behind."""

import http.client
import json
from pathlib import Path

from fakes.up_system import Up


def ask(document: dict[str, str], model: str) -> tuple[int, dict[str, object]]:
    host, _, port = document["gateway_url"].removeprefix("http://").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    try:
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hello"}]})
        headers = {"Authorization": f"Bearer {document['api_key']}", "Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", body, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_detached_it_serves_until_down_and_finds_its_state_again(system: Up, tmp_path: Path):
    ports = ("--gateway-port", str(system.gateway_port), "--coordinator-port", str(system.coordinator_port))
    for _ in range(2):
        up = system.studio("up", "--detach", *ports)
        assert up.returncode == 0, up.stdout + up.stderr
        document = system.document()
        assert document is not None
        assert document["models"] == ["demo"]
        assert document["api_key"] in up.stdout
        assert document["api_key"] not in (system.home / "logs" / "up.log").read_text(encoding="utf-8")
        status, answer = ask(document, "demo")
        assert status == 200, answer
        assert "demo-1" in system.studio("ps").stdout
        down = system.studio("down")
        assert down.returncode == 0, down.stdout + down.stderr
        assert not system.left()
    assert list(tmp_path.glob("home/run/*")) == []
