"""The shipped units as systemd itself judges them."""

import re

import pytest
from fleet.hosts import Host

UNITS = (
    *("studio-agent.service", "studio-engine@x.service"),
    *("studio-coordinator.service", "studio-postgres.service", "studio-gateway.service"),
)
AGENT, ENGINE = UNITS[:2]
LARGEST_EXPOSURE = 2.0


@pytest.mark.parametrize("unit", UNITS)
def test_the_unit_is_hardened(host: Host, unit: str) -> None:
    said = host.call("systemd-analyze", "security", "--no-pager", unit).ok()
    exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert exposure is not None, said
    weak = [line for line in said.splitlines() if line.startswith("✗")]
    assert float(exposure[1]) <= LARGEST_EXPOSURE, "\n".join(weak)


@pytest.mark.parametrize("unit", [*UNITS, "studio-engines.slice"])
def test_systemd_finds_nothing_wrong_with_the_unit(host: Host, unit: str) -> None:
    ran = host.call("systemd-analyze", "verify", "--man=no", f"/etc/systemd/system/{unit}")
    complaints = [line for line in ran.problems.splitlines() if "studio-" in line]
    assert ran.code == 0
    assert complaints == []


def test_engines_lie_beside_the_agent_in_the_tree(host: Host) -> None:
    slices = host.call("systemctl", "show", "--property=Slice", "--value", AGENT, ENGINE).ok().split()
    assert slices == ["system.slice", "studio-engines.slice"]
    needed = host.call("systemctl", "show", "--property=Requires,BindsTo,PartOf,StopPropagatedFrom", ENGINE).ok()
    assert "studio-agent" not in needed
