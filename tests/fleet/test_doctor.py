"""``studio-agent doctor`` on a host with units: right when all is there, and right about what is missing."""

import time
from pathlib import Path

import pytest
from fleet.hosts import Host, Ran
from fleet.studio_host import PYTHON

AGENT = "studio-agent"
STATE = "/var/lib/studio-agent"
RULES = "/etc/polkit-1/rules.d/50-vllm-studio.rules"
TEMPLATE = "/etc/systemd/system/studio-engine@.service"
NOTICED_SECONDS = 30


def doctor(host: Host, user: str = AGENT) -> Ran:
    options = ("--state-dir", STATE, "--engines-dir", f"{STATE}/engines", "--launcher", "systemd")
    return host.call(PYTHON, "-I", "-m", "studio_agent", "doctor", "--coordinator", "127.0.0.1:1", *options, user=user)


def launcher_line(ran: Ran) -> str:
    return next(line for line in ran.output.splitlines() if line[2:].startswith("launcher"))


def test_a_host_that_is_set_up(host: Host) -> None:
    line = launcher_line(doctor(host))
    assert line.startswith("✓"), line
    assert "polkit rule" in line


def test_another_user_is_told_whose_work_it_is(host: Host) -> None:
    line = launcher_line(doctor(host, "nobody"))
    assert line.startswith("✗"), line
    assert "no member of studio-engine" in line


@pytest.mark.parametrize(
    ("file", "said"), [(RULES, "would not do as it is asked"), (TEMPLATE, "has no studio-engine@")]
)
def test_what_is_missing_is_named(host: Host, file: str, said: str) -> None:
    there = host.root / file.lstrip("/")
    aside = Path(f"{there}.aside")
    there.rename(aside)
    try:
        host.call("systemctl", "daemon-reload").ok()
        assert said in until_launcher(host, "✗")
    finally:
        aside.rename(there)
        host.call("systemctl", "daemon-reload").ok()
    until_launcher(host, "✓")


def until_launcher(host: Host, sign: str) -> str:
    """The launcher's line once it has that sign: polkit notices changed rules a little later."""
    deadline = time.monotonic() + NOTICED_SECONDS
    while not (line := launcher_line(doctor(host))).startswith(sign):
        assert time.monotonic() < deadline, line
    return line
