"""Talking to systemd: ``systemctl`` as a child process, with an argument array and no shell.

It speaks D-Bus for us, is on every host that has systemd, and costs some 10 ms, which only a start, a stop and an end pay.
"""

import asyncio
import os
from dataclasses import dataclass

# Every call is short except a start, which waits for the program to be executed.
CALL_SECONDS = 30.0
ENVIRONMENT = {"PATH": os.defpath, "LANG": "C.UTF-8", "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": ""}


@dataclass(frozen=True)
class Answer:
    """How a call ended."""

    code: int
    output: str
    # The first line of what it complained about.
    problem: str


@dataclass(frozen=True)
class UnitStatus:
    """What systemd knows of a service unit."""

    # "" for a unit that was never started, or that systemd has forgotten.
    invocation_id: str
    active_state: str
    # The live main process; 0: none.
    main_pid: int
    # The newest main process, also after its end.
    exec_main_pid: int
    # Negative: ended by that signal. None: it has not ended.
    exit_code: int | None


PROPERTIES = ("Id", "InvocationID", "ActiveState", "MainPID", "ExecMainPID", "ExecMainCode", "ExecMainStatus")
CLD_EXITED = 1


async def call(*arguments: str, timeout: float = CALL_SECONDS) -> Answer:
    """Run ``systemctl ARGUMENTS``. A call that takes too long, or cannot be made, has failed like any other."""
    argv = ("systemctl", "--no-ask-password", "--no-pager", *arguments)
    try:
        child = await asyncio.create_subprocess_exec(
            *argv,
            env=ENVIRONMENT,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        return Answer(1, "", f"systemctl cannot be run: {error}")
    try:
        async with asyncio.timeout(timeout):
            output, problems = await child.communicate()
    except BaseException as error:
        child.kill()
        await child.wait()
        if isinstance(error, TimeoutError):
            return Answer(1, "", f"systemctl {arguments[0]} did not answer within {timeout:.0f} s")
        raise
    lines = problems.decode("utf-8", "replace").strip().splitlines()
    return Answer(child.returncode or 0, output.decode("utf-8", "replace"), lines[0] if lines else "")


async def show(*units: str) -> dict[str, UnitStatus]:
    """The status of each unit that systemd can tell of, by name."""
    if not units:
        return {}
    answer = await call("show", f"--property={','.join(PROPERTIES)}", "--", *units)
    return parse_show(answer.output)


def parse_show(output: str) -> dict[str, UnitStatus]:
    """Read ``KEY=VALUE`` lines, a blank line between units."""
    found = {}
    for block in output.split("\n\n"):
        fields = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if fields.get("Id"):
            found[fields["Id"]] = _status(fields)
    return found


def _status(fields: dict[str, str]) -> UnitStatus:
    how, status = int(fields.get("ExecMainCode", 0)), int(fields.get("ExecMainStatus", 0))
    return UnitStatus(
        invocation_id=fields.get("InvocationID", ""),
        active_state=fields.get("ActiveState", ""),
        main_pid=int(fields.get("MainPID", 0)),
        exec_main_pid=int(fields.get("ExecMainPID", 0)),
        exit_code=None if how == 0 else status if how == CLD_EXITED else -status,
    )
