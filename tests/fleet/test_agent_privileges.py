"""What the agent's user may ask of a host: its own engines' units, and nothing else."""

import json

import pytest
from fleet.hosts import Host
from fleet.studio_host import PYTHON

AGENT = "studio-agent"
MANAGER = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
ENGINES = "/var/lib/studio-engine"
SPEC = "/run/studio-engines/demo-1.1.00.json"
EVIL = "studio-engine@evil.service"
# A transient unit that runs a shell command as root, if it is made.
TRANSIENT = ("StartTransientUnit", "ssa(sv)a(sa(sv))", EVIL, "fail", "1")
EXEC_START = ("ExecStart", "a(sasb)", "1", "/usr/bin/touch", "2", "/usr/bin/touch", "/root/evil", "false", "0")

REFUSED = {
    "starts another unit": ("systemctl", "start", "systemd-tmpfiles-clean.service"),
    "stops another unit": ("systemctl", "stop", "ssh.service"),
    "kills another unit": ("systemctl", "kill", "--signal=KILL", "ssh.service"),
    "stops itself": ("systemctl", "stop", "studio-agent.service"),
    "forgets another unit's failure": ("systemctl", "reset-failed", "ssh.service"),
    "runs a transient unit": ("systemd-run", "id"),
    "runs a transient unit under an engine's name": ("systemd-run", f"--unit={EVIL}", "id"),
    "makes an engine's unit up over D-Bus": ("busctl", "call", *MANAGER, *TRANSIENT, *EXEC_START),
    "changes an engine's limits": ("systemctl", "set-property", "--runtime", EVIL, "MemoryMax=1G"),
    "restarts an engine": ("systemctl", "restart", EVIL),
    "reloads an engine": ("systemctl", "reload-or-restart", EVIL),
    "freezes an engine": ("systemctl", "freeze", EVIL),
    "masks a unit": ("systemctl", "mask", "--runtime", "ssh.service"),
    "links a unit": ("systemctl", "link", "--runtime", "/var/lib/studio-agent/evil.service"),
    "reloads systemd": ("systemctl", "daemon-reload"),
    "sets systemd's environment": ("systemctl", "set-environment", "LD_PRELOAD=/var/lib/studio-agent/evil.so"),
    "reboots": ("systemctl", "reboot"),
    "changes the template": ("touch", "/etc/systemd/system/studio-engine@.service"),
    "puts a drop-in beside an engine's unit": ("mkdir", f"/run/systemd/system/{EVIL}.d"),
    "changes what may be asked": ("touch", "/etc/polkit-1/rules.d/00-evil.rules"),
    "kills a process of root": (PYTHON, "-c", "import os; os.kill(1, 9)"),
    "changes its program": ("touch", PYTHON),
}


@pytest.mark.parametrize("argv", REFUSED.values(), ids=REFUSED.keys())
def test_the_agents_user_is_refused(host: Host, argv: tuple[str, ...]) -> None:
    host.write("/var/lib/studio-agent/evil.service", "[Service]\nExecStart=/usr/bin/id\n")
    ran = host.call(*argv, user=AGENT)
    said = (ran.output + ran.problems).lower()
    assert ran.code != 0, said
    refusals = ("access denied", "authentication", "not permitted", "permission denied", "not authorized")
    assert any(word in said for word in refusals), said
    assert not (host.root / "root/evil").exists()


@pytest.mark.parametrize(
    "unit", ["studio-engine@.service", "studio-engine@-x.service", "studio-engine@x.socket", "xstudio-engine@x.service"]
)
def test_only_names_of_engines_are_engines(host: Host, unit: str) -> None:
    ran = host.call("systemctl", "start", "--no-ask-password", unit, user=AGENT)
    assert ran.code != 0
    assert host.call("systemctl", "show", "--property=ActiveState", "--value", unit).output.strip() != "active"


def test_the_agents_user_may_start_kill_stop_and_forget_an_engine(host: Host) -> None:
    unit = "studio-engine@demo-1.1.00.service"
    host.write("/run-spec", json.dumps({"argv": ["/usr/bin/sleep", "600"], "env": {}, "log_path": f"{ENGINES}/x.log"}))
    host.call("install", "-d", "-o", "studio-engine", "-m", "0700", ENGINES).ok()
    host.call("install", "-o", "studio-engine", "-m", "0600", "/dev/null", f"{ENGINES}/x.log").ok()
    host.call("install", "-o", AGENT, "-m", "0644", "/run-spec", SPEC).ok()
    host.call("systemctl", "start", unit, user=AGENT).ok()
    host.call("rm", SPEC, "/run-spec").ok()
    pid = host.call("systemctl", "show", "--property=MainPID", "--value", unit).ok()
    assert host.call("ps", "-o", "user=", "-p", pid).ok() == "studio-engine"
    denied = host.call(PYTHON, "-c", f"import os; os.kill({pid}, 9)", user=AGENT)
    assert "not permitted" in denied.problems, "engines are another user's; only systemd signals them for the agent"
    host.call("systemctl", "kill", "--signal=KILL", unit, user=AGENT).ok()
    host.call("systemctl", "stop", unit, user=AGENT).ok()
    host.call("systemctl", "reset-failed", unit, user=AGENT)
    assert host.call("systemctl", "show", "--property=InvocationID", "--value", unit).output.strip() == ""


def test_nobody_else_may_start_engines(host: Host) -> None:
    for user in ("nobody", "studio-engine"):
        ran = host.call("systemctl", "start", "--no-ask-password", EVIL, user=user)
        assert ran.code != 0
        assert "authentication" in ran.problems.lower(), ran.problems
