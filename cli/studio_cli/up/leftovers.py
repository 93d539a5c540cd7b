"""What a killed supervisor left: the kernel has told its roles to stop; they are waited for, and in the end made to."""

import signal

from studio_runtime.settings import Home

from studio_cli.report import Report
from studio_cli.up.roster import Roster, send, until_gone

PATIENCE_SECONDS = 10.0


def roster_of(home: Home) -> Roster:
    """The roster of an installation."""
    return Roster(home.run / "roles.json")


async def end_leftovers(home: Home, report: Report) -> list[str]:
    """End the roles that an earlier supervisor left; returns their names. Engines stay: the next agent adopts them."""
    roster = roster_of(home)
    left = roster.running()
    if left:
        with report.step("leftovers") as step:
            step.update(f"waiting for {', '.join(left)} of an earlier `studio up`")
            for number in (signal.SIGTERM, signal.SIGKILL):
                remaining = await until_gone(left.values(), PATIENCE_SECONDS)
                for identity in remaining:
                    send(identity, number)
            await until_gone(left.values(), PATIENCE_SECONDS)
            step.done(f"{', '.join(left)} of an earlier `studio up` ended")
    roster.clear()
    return list(left)
