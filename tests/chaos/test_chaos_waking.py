"""Down the idle ladder and up again, through the whole system."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from fakes.whole_system import System, eventually, running_system

MANIFEST = """
kind: Recipe
name: demo
engine: {name: demo}
args: {sleep_mode: true, demo: {load_seconds: 0.2}}
resources: {gpu: {count: 0}}
---
kind: Deployment
name: demo
recipe: demo
idle: IDLE
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def is_there(system: System, state: str) -> dict[str, Any] | None:
    (deployment,) = system.listed("deployments", "list")
    return deployment if deployment["state"] == state else None


def ask(system: System, **body: Any) -> httpx.Response:
    return httpx.post(
        system.up["gateway_url"] + "/v1/chat/completions",
        headers={"Authorization": f"Bearer {system.up['api_key']}"},
        json={"model": "demo", "messages": [{"role": "user", "content": "Say hello"}], "max_tokens": 2, **body},
        timeout=60,
    )


def test_a_model_that_nobody_asks_for_sleeps_then_stops_and_requests_bring_it_back(home: Path) -> None:
    with running_system(home) as system:
        system.ready_replica()
        system.studio("apply", "-f", "-", "--wait", stdin=MANIFEST.replace("IDLE", "{sleep_after: 1s}"))
        asleep = eventually(lambda: is_there(system, "ASLEEP"))
        assert asleep is not None
        assert asleep["state_reason"] == "it sleeps: nobody asked for it for 1 s"
        engine = eventually(lambda: [row["pid"] for row in system.listed("ps") if row["state"] == "SLEEPING"])[0]
        assert ask(system).status_code == 200
        assert [row["pid"] for row in system.listed("ps")] == [engine], "the same process woke"

        system.studio("apply", "-f", "-", stdin=MANIFEST.replace("IDLE", "{stop_after: 1s}"))
        eventually(lambda: not system.listed("ps"))
        system.studio("apply", "-f", "-", stdin=MANIFEST.replace("IDLE", "{stop_after: 1h}"))
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda _: ask(system).status_code, range(8)))
        assert answers == [200] * 8
        placed = [event for event in system.listed("events") if event["kind"] == "replica.placed"]
        assert len(placed) == 3, "at the start, for the new revision, and once for all eight"

        # An operator does the same, and what is refused says why.
        assert "asleep" in system.studio("sleep", "demo").stdout
        assert [row["state"] for row in system.listed("ps")] == ["SLEEPING"]
        assert "ready" in system.studio("wake", "demo", "--wait").stdout
        assert "stopped" in system.studio("sleep", "demo", "--stop").stdout
        refused = system.studio("sleep", "demo", check=False)
        assert refused.returncode
        assert "studio wake demo" in refused.stderr + refused.stdout
