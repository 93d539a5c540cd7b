"""The lines that people see while something takes its time: a spinner on a terminal, plain lines elsewhere.

What cannot be printed (the pipe's reader has gone, the disk is full) is lost and ends nothing: whoever reports is busy starting
and stopping processes.
"""

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.status import Status
from rich.text import Text

from studio_cli import wording

NAME_WIDTH = 15
# A step that takes longer than this shows that it goes on.
QUIET_SECONDS = 1.0
# On a pipe progress is a line; more often than this it would be noise.
LINE_SECONDS = 2.0
# Shorter times are not worth a word.
TIME_WORTH_SECONDS = 0.5


class Step:
    """One step under way: ``update`` says how far it is, ``done`` what came of it."""

    def __init__(self, report: "Report", name: str, status: Status | None) -> None:
        self.name = name
        self.outcome = ""
        self.timed = True
        self.detail = "starting"
        self._report = report
        self._status = status
        self._began = time.monotonic()
        self._printed = ""
        self._printed_at = self._began - LINE_SECONDS
        self.still_going = asyncio.get_running_loop().call_later(QUIET_SECONDS, self._show)

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return time.monotonic() - self._began

    def update(self, detail: str) -> None:
        """Say how far it is."""
        self.detail = detail
        if self._status is not None or self.seconds >= QUIET_SECONDS:
            self._show()

    def done(self, outcome: str, *, timed: bool = True) -> None:
        """Say what came of it; printed when the step ends, with its time unless the outcome tells it."""
        self.outcome, self.timed = outcome, timed

    def _show(self) -> None:
        if self._status is not None:
            self._status.update(Text(f"{self.name:<{NAME_WIDTH}}  {self.detail}"))
        elif self.detail != self._printed and time.monotonic() - self._printed_at >= LINE_SECONDS:
            self._printed, self._printed_at = self.detail, time.monotonic()
            self._report.line(f"… {self.name:<{NAME_WIDTH}}  {self.detail}")


class _Unfailing(Console):
    """A console that goes on without its reader."""

    def on_broken_pipe(self) -> None:
        """Print to nowhere from now on; rich itself would end the process."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)


class Report:
    """Prints to ``console``."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @classmethod
    def on_standard_output(cls) -> "Report":
        """For people on a terminal, or a log."""
        return cls(_Unfailing())

    @classmethod
    def on_standard_error(cls) -> "Report":
        """Where standard output is for a script."""
        return cls(_Unfailing(stderr=True))

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Show a step; a tick with its outcome and time when the block ends well, a cross when it does not."""
        status = self._console.status(Text(f"{name:<{NAME_WIDTH}}")) if self._console.is_terminal else None
        step = Step(self, name, status)
        if status is not None:
            status.start()
        try:
            yield step
        except BaseException:
            self._end(step, status, "✗", step.outcome or step.detail)
            raise
        self._end(step, status, "✓", step.outcome)

    def line(self, text: str, style: str = "") -> None:
        """Print one line, above the spinner where there is one."""
        self._print(Text(text, style=style))

    def warning(self, text: str) -> None:
        """Print something that went wrong and did not stop the system."""
        self.line(f"! {text}", style="yellow")

    def _end(self, step: Step, status: Status | None, mark: str, text: str) -> None:
        step.still_going.cancel()
        if status is not None:
            status.stop()
        took = f"  {wording.seconds(step.seconds)}" if step.timed and step.seconds >= TIME_WORTH_SECONDS else ""
        line = Text(f"{mark} ", style="green" if mark == "✓" else "red")
        line.append(f"{step.name:<{NAME_WIDTH}}  {text}", style="default")
        line.append(took, style="dim")
        self._print(line)

    def _print(self, line: Text) -> None:
        with suppress(OSError):
            self._console.print(line, soft_wrap=True, highlight=False)


def on_terminal() -> bool:
    """Whether a person watches what is written."""
    return sys.stdout.isatty()
