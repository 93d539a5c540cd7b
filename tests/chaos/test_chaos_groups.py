"""A replica over two hosts, from the manifest to an answer: two agents, and a demo engine of two processes."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fakes.whole_system import System, eventually, running_system
from studio_agent.launch.proc_scan import pids, token_of

MANIFEST = """
kind: Recipe
name: duo
engine: {name: demo}
resources: {hosts: 2}
---
kind: Deployment
name: duo
recipe: duo
"""


class SecondHost:
    """Another host, which this machine plays as well."""

    def __init__(self, system: System, folder: Path) -> None:
        self.folder = folder
        self._system = system
        self._agent: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        coordinator = f"127.0.0.1:{self._system.coordinator_port}"
        argv = [sys.executable, "-m", "studio_agent", "run", "--coordinator", coordinator, "--host-name", "second"]
        argv += ["--state-dir", str(self.folder / "agent"), "--engines-dir", str(self.folder / "engines")]
        argv += ["--token-file", str(self._system.home / "coordinator" / "local-token")]
        with (self.folder / "agent.log").open("ab") as log:
            self._agent = subprocess.Popen(
                argv, stdout=log, stderr=log, env=self._system.environment, start_new_session=True
            )

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        assert self._agent is not None
        self._agent.send_signal(how)
        self._agent.wait(30)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with running_system(tmp_path_factory.mktemp("home")) as running:
        yield running


@pytest.fixture(scope="module")
def second(system: System, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecondHost]:
    host = SecondHost(system, tmp_path_factory.mktemp("second"))
    host.start()
    try:
        eventually(lambda: connected(system) == 2)
        yield host
        system.studio("stop", "duo")
    finally:
        host.end()


def connected(system: System) -> int:
    return sum(host["state"] == "CONNECTED" for host in system.listed("hosts"))


def engines(system: System, second: SecondHost) -> set[int]:
    """Processes of the parts of the engine, on both hosts; that of `studio up`'s first model is not among them."""
    found = set()
    for state in (system.home / "agent", second.folder / "agent"):
        host_id = (state / "host-id").read_text()
        found |= {pid for pid in pids() if (token_of(pid, host_id) or "").startswith("duo-1.")}
    return found


def asked(system: System) -> str:
    answer = httpx.post(
        system.up["gateway_url"] + "/v1/chat/completions",
        headers={"Authorization": f"Bearer {system.up['api_key']}"},
        json={"model": "duo", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4},
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


def test_a_group_is_planned_serves_fails_as_a_whole_and_comes_back(system: System, second: SecondHost) -> None:
    planned = system.studio("plan", "-f", "-", stdin=MANIFEST).stdout
    commands = [line for line in planned.splitlines() if line.startswith("  command")]
    assert ["--node-rank 0" in commands[0], "--node-rank 1" in commands[1]] == [True, True], planned
    assert "rank 1 of duo-1" in planned

    system.studio("apply", "-f", "-", stdin=MANIFEST)
    row = system.ready_replica("duo-1")
    (member,) = row["members"]
    assert {row["host_name"], member["host_name"]} == {host["name"] for host in system.listed("hosts")}
    assert asked(system)
    told = system.studio("describe", "duo-1").stdout
    assert f"rank 1    {member['host_name']}, READY" in told

    assert "rank 1 in world size 2" in system.studio("logs", "duo-1/1").stdout
    assert "has no rank 2" in system.studio("logs", "duo-1/2", check=False).stderr

    before = engines(system, second)
    assert len(before) == 2
    # The member's own process; its rank is in its command line.
    victim = next(pid for pid in before if b"--node-rank\x001" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: system.replica("duo-1").get("generation") == 2)
    system.ready_replica("duo-1")
    assert asked(system)
    after = engines(system, second)
    assert len(after) == 2
    assert not before & after, "every part was begun anew, not only the one that died"
    kinds = [event["kind"] for event in system.listed("events", "--replica", "duo-1")]
    assert kinds.count("replica.broken") == 1
    assert kinds.count("replica.routed") == 2, "its route was withdrawn, and came back"


def test_an_agent_that_is_killed_leaves_its_part_of_the_engine_running(system: System, second: SecondHost) -> None:
    before, generation = engines(system, second), system.ready_replica("duo-1")["generation"]
    second.end(signal.SIGKILL)
    assert asked(system)
    second.start()
    eventually(lambda: len(system.listed("events", "--host", "second")) and connected(system) == 2)
    eventually(lambda: system.replica("duo-1")["members"][0]["state"] == "READY")
    assert asked(system)
    row = system.ready_replica("duo-1")
    assert (engines(system, second), row["generation"]) == (before, generation)
