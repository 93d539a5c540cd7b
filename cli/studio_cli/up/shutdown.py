"""Everything stopped in order: the last role first, each asked, given its time, then killed; the engines after their agent."""

import asyncio
import signal
from collections.abc import Sequence

from studio_cli.report import Report
from studio_cli.up.child import Child, open_log
from studio_cli.up.keeper import Keeper
from studio_cli.up.roles import Role

KILLED_SECONDS = 10.0
HURRIED_EPILOGUE_SECONDS = 15.0


async def stop_all(keepers: Sequence[Keeper], report: Report) -> None:
    """Stop ``keepers`` from the last to the first. Their ``run`` must have ended, so that nothing is started again.

    One more cancellation while this goes on (a second Ctrl-C) does not leave anything behind: it means, at once.
    """
    hurry = asyncio.Event()
    stopping = asyncio.ensure_future(stop_in_order(keepers, report, hurry))
    while not stopping.done():
        try:
            await asyncio.shield(stopping)
        except asyncio.CancelledError:
            if not hurry.is_set():
                report.line("stopping at once")
            hurry.set()
    stopping.result()


async def stop_in_order(keepers: Sequence[Keeper], report: Report, hurry: asyncio.Event) -> None:
    """What ``stop_all`` does; ``hurry`` cuts every grace short."""
    for keeper in reversed(keepers):
        if keeper.child is None:
            continue
        await stop_role(keeper.child, keeper.role, report, hurry)
        if keeper.role.epilogue:
            await run_epilogue(keeper.role, report, hurry)


async def stop_role(child: Child, role: Role, report: Report, hurry: asyncio.Event) -> None:
    """Stop one role."""
    with report.step(role.name) as step:
        step.update("stopping")
        if child.has_ended:
            step.done("had ended")
            return
        child.send(role.stop_signal)
        if await has_ended(child, role.stop_seconds, hurry):
            step.done("stopped")
            return
        child.send(signal.SIGKILL)
        killed = await has_ended(child, KILLED_SECONDS, asyncio.Event())
        step.done("killed" if killed else f"pid {child.pid} does not even end when killed")


async def run_epilogue(role: Role, report: Report, hurry: asyncio.Event) -> None:
    """Run what follows the end of a role; once more where it was killed, or failed."""
    with report.step(role.epilogue_name) as step:
        step.update("stopping")
        if await epilogue_succeeds(role, hurry) or await epilogue_succeeds(role, hurry):
            step.done("stopped")
        else:
            step.done(f"some may still run, see {role.log}; `studio down` tries again")


async def epilogue_succeeds(role: Role, hurry: asyncio.Event) -> bool:
    """Run the epilogue to its end, or to the end of patience."""
    with open_log(role.log) as log:
        child = Child(role.epilogue, log)
    # Haste shortens every grace and does not skip the work: engines that are left behind would hold their GPUs.
    ended = await has_ended(child, role.epilogue_seconds, hurry)
    if not ended and hurry.is_set():
        child.send(signal.SIGINT)
        ended = await has_ended(child, HURRIED_EPILOGUE_SECONDS, asyncio.Event())
    if not ended:
        child.send(signal.SIGKILL)
    return await child.wait() == 0


async def has_ended(child: Child, seconds: float, hurry: asyncio.Event) -> bool:
    """Wait for the end of ``child``, for ``seconds`` or until ``hurry`` is set; returns whether it ended."""
    waits = [asyncio.ensure_future(child.wait()), asyncio.ensure_future(hurry.wait())]
    await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    await asyncio.wait(waits)
    return child.has_ended
