"""A replica over two hosts, from the manifest to an answer: two agents, and a demo engine of two processes."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def second_agent(system: System, folder: Path) -> Iterator[None]:
    """Another host, which this machine plays as well."""
    coordinator = f"127.0.0.1:{system.coordinator_port}"
    argv = [sys.executable, "-m", "studio_agent", "run", "--coordinator", coordinator, "--host-name", "second"]
    argv += ["--state-dir", str(folder / "agent"), "--engines-dir", str(folder / "engines")]
    with (folder / "agent.log").open("ab") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, env=system.environment, start_new_session=True)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("second")


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[System]:
    with running_system(tmp_path_factory.mktemp("home")) as running, second_agent(running, folder):
        eventually(lambda: len([host for host in running.listed("hosts") if host["state"] == "CONNECTED"]) == 2)
        yield running
        running.studio("stop", "duo")


def engines(system: System, folder: Path) -> set[int]:
    """Processes of the parts of the engine, on both hosts; that of `studio up`'s first model is not among them."""
    found = set()
    for state in (system.home / "agent", folder / "agent"):
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


def test_a_group_is_planned_serves_fails_as_a_whole_and_comes_back(system: System, folder: Path) -> None:
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

    before = engines(system, folder)
    assert len(before) == 2
    # The member's own process; its rank is in its command line.
    victim = next(pid for pid in before if b"--node-rank\x001" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: system.replica("duo-1").get("generation") == 2)
    system.ready_replica("duo-1")
    assert asked(system)
    after = engines(system, folder)
    assert len(after) == 2
    assert not before & after, "every part was begun anew, not only the one that died"
    kinds = [event["kind"] for event in system.listed("events", "--replica", "duo-1")]
    assert kinds.count("replica.broken") == 1
    assert kinds.count("replica.routed") == 2, "its route was withdrawn, and came back"
