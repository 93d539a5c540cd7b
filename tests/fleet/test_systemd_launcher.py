"""The launchers' contract suite, run on a booted host by the agent's own user."""

from fleet.hosts import Host
from fleet.studio_host import INSTALLED, PYTHON

AGENT = "studio-agent"
SUITE = f"{INSTALLED}/checkout/tests/system/agent/launch"
PYTEST = (PYTHON, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", f"{INSTALLED}/checkout")


def test_the_systemd_launcher_keeps_the_contract(host: Host) -> None:
    ran = host.call("env", "STUDIO_LAUNCHER=systemd", *PYTEST, SUITE, user=AGENT, timeout=240)
    assert ran.code == 0, ran.output + ran.problems
    assert "skipped" not in ran.output
    left = host.call("systemctl", "list-units", "--all", "--plain", "--no-legend", "studio-engine@*").output
    assert left == "", "units are forgotten when their engine is"
    assert host.call("ls", "/run/studio-engines").ok() == ""
