"""When a rolling upgrade stops: the role's own judgement of hosts that it is told of. No host is booted for it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from fleet.provisioning import CHECKOUT, RECAP

VERDICT = CHECKOUT / "ansible/roles/agent/tasks/verdict.yml"
PLAY = [{"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.include_tasks": str(VERDICT)}]}]
CONNECTED = {"kind": "host.connected", "message": "it connected"}
WELL = {
    "ansible_connection": "local",
    "agent_name": "{{ inventory_hostname }}",
    "release_version": "2.0",
    "agent_host_now": {"state": "CONNECTED", "facts": {"agent_version": "2.0"}},
    "agent_events": [CONNECTED, {"kind": "agent.started", "message": "the agent started"}],
    "agent_replicas_now": [{"id": "r1", "state": "READY"}, {"id": "r2", "state": "STARTING"}],
    "agent_serving_before": ["r1"],
    "agent_last_words": [],
}
# By what is wrong; and what is said of it.
ILL: dict[str, tuple[dict[str, Any], str]] = {
    "refuses": (
        {"agent_events": [CONNECTED, {"kind": "assignment.refused", "message": "it is no good"}]},
        "Events: it is no good",
    ),
    "flaps": ({"agent_events": [CONNECTED] * 3}, "Connections since: 3"),
    "lost-a-replica": ({"agent_serving_before": ["r1", "r2"]}, "Served before and not now: r2"),
    "away": (
        {
            "agent_host_now": {"state": "DISCONNECTED", "facts": {"agent_version": "2.0"}},
            "agent_last_words": ["no such option"],
        },
        "Last words of the agent: no such option",
    ),
    "has-the-old-agent": (
        {"agent_host_now": {"state": "CONNECTED", "facts": {"agent_version": "1.0"}}},
        "is not connected with an agent of this release",
    ),
}


def test_an_upgrade_goes_on_after_hosts_that_are_well_and_stops_at_others(tmp_path: Path) -> None:
    hosts = {"well": WELL, **{name: {**WELL, **wrong} for name, (wrong, _) in ILL.items()}}
    (tmp_path / "play.yml").write_text(yaml.safe_dump(PLAY))
    (tmp_path / "inventory.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
    program = str(Path(sys.executable).parent / "ansible-playbook")
    ended = subprocess.run(
        [program, "--inventory", str(tmp_path / "inventory.yml"), str(tmp_path / "play.yml")],
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_HOME": str(tmp_path / "home"), "LC_ALL": "C.UTF-8"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    failed = {name for name, *_, failed in RECAP.findall(ended.stdout) if failed != "0"}
    assert failed == set(ILL), ended.stdout
    for name, (_, said) in ILL.items():
        (line,) = [line for line in ended.stdout.splitlines() if line.startswith(f"fatal: [{name}]")]
        assert said in line
        assert f"{name} did not take 2.0 well, and no further host is upgraded" in line
