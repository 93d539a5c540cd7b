"""``studio up --detach``: the same supervisor in a session of its own, watched until it is ready or has failed."""

import asyncio
import signal
import sys
from typing import IO, Any

from studio_runtime.errors import StudioError
from studio_runtime.settings import Home

from studio_cli.errors import error_of
from studio_cli.report import Report
from studio_cli.up import up_file
from studio_cli.up.child import Child, describe_exit, open_log
from studio_cli.up.options import UpOptions, arguments_of
from studio_cli.up.welcome import welcome

POLL_SECONDS = 0.1


async def detach(home: Home, options: UpOptions, report: Report) -> None:
    """Start ``studio up`` with ``options`` in the background; returns when it is ready. Raises StudioError."""
    log_file = home.logs / "up.log"
    with open_log(log_file) as log:
        offset = log.seek(0, 2)
        child = Child((sys.executable, "-m", "studio_cli", "up", "--background", *arguments_of(options)), log)
    with log_file.open("rb") as output:
        output.seek(offset)
        try:
            document = await until_up(home, child, output, report)
        except asyncio.CancelledError:
            child.send(signal.SIGTERM)
            await child.wait()
            relay(output, report)
            raise StudioError("interrupted before all was ready; what had been started was stopped") from None
    welcome(
        home, document["gateway_url"], document["api_key"], document["models"], report, "studio down stops everything"
    )
    if document["problem"]:
        raise StudioError(
            f"the system is up, but: {document['problem']}", "`studio ps` and `studio describe NAME` tell more."
        )


async def until_up(home: Home, child: Child, output: IO[bytes], report: Report) -> dict[str, Any]:
    """Show what ``child`` says until its ``up.json`` is there. Raises StudioError where it ends instead."""
    while True:
        document = up_file.read(home.up_file)
        ended = child.has_ended
        relay(output, report)
        if document is not None and document.get("pid") == child.pid:
            return document
        if ended:
            code = child.exit_code or 0
            raise error_of(code)(
                f"the system did not come up: `studio up` ended with {describe_exit(code)}",
                f"What it said is above and in {home.logs / 'up.log'}",
            )
        await asyncio.sleep(POLL_SECONDS)


def relay(output: IO[bytes], report: Report) -> None:
    """Print the whole lines that are new in ``output``."""
    while line := output.readline():
        if not line.endswith(b"\n"):
            output.seek(-len(line), 1)
            return
        report.line(line.decode("utf-8", "replace").rstrip("\n"))
