"""What a killed supervisor left: the kernel has told its roles to stop; they are told again, waited for, and in the end made to.

To be told twice harms none of them.
"""

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
                for identity in left.values():
                    send(identity, number)
                if not await until_gone(left.values(), PATIENCE_SECONDS):
                    break
            step.done(f"{', '.join(left)} of an earlier `studio up` ended")
    roster.clear()
    return list(left)
