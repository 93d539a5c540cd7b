"""``studio down``: ask the running ``studio up`` to stop and watch it do so; or clear up after one that was killed."""

import asyncio
import signal
import sys
from contextlib import suppress

from studio_runtime.errors import SafetyError, StudioError
from studio_runtime.process import ProcessIdentity, lock_folder
from studio_runtime.settings import Home

from studio_cli.report import Report
from studio_cli.up.child import Child, open_log
from studio_cli.up.leftovers import end_leftovers, roster_of
from studio_cli.up.lock import locked
from studio_cli.up.roster import send, until_gone

# Longer than all graces of a shutdown together.
STOP_SECONDS = 360.0
POLL_SECONDS = 0.1


async def down(home: Home, report: Report) -> None:
    """Stop what runs on ``home``. Raises StudioError when it does not stop."""
    if not home.root.is_dir():
        report.line(f"nothing runs on {home.root}: it does not exist")
        return
    supervisor = owner_of(home)
    if supervisor is None:
        await clear_up(home, report)
    else:
        await stop_supervisor(home, supervisor, report)


def owner_of(home: Home) -> ProcessIdentity | None:
    """The ``studio up`` that has ``home``: whoever holds the lock wrote its pid there. None where nobody holds it."""
    try:
        lock_folder(home.root).close()
    except BlockingIOError as error:
        pid = str(error.filename or "")
        identity = ProcessIdentity.of(int(pid)) if pid.isdigit() else None
        if identity is None:
            raise StudioError(
                f"{home.root} is in use, and it is not known by whom", "Look with: lsof " + str(home.root / ".lock")
            ) from None
        return identity
    return None


async def stop_supervisor(home: Home, supervisor: ProcessIdentity, report: Report) -> None:
    """Have ``studio up`` stop, and say what ends as it ends."""
    roles = roster_of(home).running()
    send(supervisor, signal.SIGTERM)
    with report.step("studio up") as step:
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                while supervisor.is_running():
                    left = [name for name, identity in roles.items() if identity.is_running()]
                    step.update(f"stopping {', '.join(left) or 'pid ' + str(supervisor.pid)}")
                    await asyncio.sleep(POLL_SECONDS)
        left_over = await until_gone([supervisor, *roles.values()], POLL_SECONDS)
        if left_over:
            raise StudioError(
                f"pid {', '.join(str(identity.pid) for identity in left_over)} did not stop within {STOP_SECONDS:.0f} s",
                f"Look at {home.logs}",
            )
        step.done(f"pid {supervisor.pid} stopped, with {', '.join(reversed(roles)) or 'no role'}")
    # It stopped the engines itself, unless what it had do that was killed. Where the next one starts already, they are its own.
    with suppress(SafetyError), locked(home):
        await stop_engines(home, report)


async def clear_up(home: Home, report: Report) -> None:
    """Nobody has the folder: end what a killed supervisor left, engines too."""
    try:
        with locked(home):
            if not await end_leftovers(home, report) and not home.up_file.exists():
                report.line(f"no `studio up` runs on {home.root}")
            forget(home)
            await stop_engines(home, report)
    except SafetyError:
        # Somebody started one just now: that one is to stop.
        await down(home, report)


def forget(home: Home) -> None:
    """Remove what says that something runs."""
    home.up_file.unlink(missing_ok=True)
    for ready_file in home.run.glob("*.json"):
        ready_file.unlink(missing_ok=True)


async def stop_engines(home: Home, report: Report) -> None:
    """Stop the engines that the agent of ``home`` owns, where there was one. Raises StudioError."""
    if not home.agent.is_dir():
        return
    log_file = home.logs / "agent.log"
    with report.step("engines") as step, open_log(log_file) as log:
        child = Child((sys.executable, "-m", "studio_agent", "stop-engines", "--state-dir", str(home.agent)), log)
        step.update("stopping")
        if code := await child.wait():
            raise StudioError(f"engines could not be stopped: stop-engines ended with {code}", f"Its log is {log_file}")
        step.done("stopped: none is left")
