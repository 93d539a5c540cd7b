"""A program that runs to its end: its lines are handed on and logged, its failure is an error, cancelling ends it."""

import asyncio
import os
import signal
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

TERMINATE_SECONDS = 5.0
LINE_LIMIT_BYTES = 1024 * 1024
KEPT_LINES = 40


class ProgramError(Exception):
    """A program ended with another code than 0; ``lines`` are its last ones."""

    def __init__(self, argv: Sequence[str], code: int, lines: list[str]) -> None:
        super().__init__(f"{Path(argv[0]).name} ended with code {code}")
        self.code = code
        self.lines = lines


async def run(
    argv: Sequence[str],
    log: Path | None,
    on_line: Callable[[str], None] = lambda _line: None,
    keep_open: Sequence[int] = (),
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run ``argv``; append what it says to ``log``, where there is one. Raises ProgramError.

    ``keep_open`` are file descriptors that it inherits, so that a lock held through them lasts as long as it runs, even if this
    process dies first. ``environment`` stands for this process's own.
    """
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
        env=_cleaned(os.environ if environment is None else environment),
        start_new_session=True,
        pass_fds=tuple(keep_open),
        limit=LINE_LIMIT_BYTES,
    )
    last: list[str] = []
    try:
        assert process.stdout is not None  # noqa: S101 - asked for above
        with (log or Path(os.devnull)).open("a", encoding="utf-8") as file:
            file.write(f"$ {' '.join(argv)}\n")
            async for raw in process.stdout:
                line = raw.decode("utf-8", "replace").rstrip()
                file.write(line + "\n")
                file.flush()
                last = [*last[1 - KEPT_LINES :], line]
                on_line(line)
        code = await process.wait()
    except BaseException:
        await _end(process)
        raise
    if code:
        raise ProgramError(argv, code, last)


async def _end(process: Process) -> None:
    """End it and what it started: politely, then not."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        try:
            async with asyncio.timeout(TERMINATE_SECONDS):
                await process.wait()
        except TimeoutError:
            continue
        return


def _cleaned(environment: Mapping[str, str]) -> dict[str, str]:
    """With its proxies, certificates and settings of tools, without what would change which Python code is loaded."""
    return {
        name: value for name, value in environment.items() if not name.startswith(("PYTHON", "STUDIO_", "VIRTUAL_ENV"))
    }
