"""What the pulling child says, and how the agent hears it: one JSON object a line."""

import json
import logging
import sys
import threading
from dataclasses import asdict, dataclass

from studio_agent.models.errors import BY_REASON, ModelError, PullBrokenOffError
from studio_agent.models.folders import Listing, RevisionFolder

INTERVAL_SECONDS = 0.5


@dataclass(frozen=True)
class PullProgress:
    """How far a pull is."""

    # Empty until the hub has said which one it is.
    commit: str = ""
    bytes_done: int = 0
    # 0: not known yet.
    bytes_total: int = 0
    # A line for people; empty when there is nothing but the bytes to tell.
    note: str = ""

    @property
    def share(self) -> float | None:
        """0 to 1; None where it cannot be told."""
        return self.bytes_done / self.bytes_total if self.bytes_total else None


class Voice:
    """The child's: used by several threads."""

    def __init__(self) -> None:
        self._note = ""
        self._subject: tuple[RevisionFolder, Listing] | None = None
        self._speaking = threading.Lock()

    def about(self, folder: RevisionFolder, listing: Listing) -> None:
        """From now on it is about this one."""
        self._subject = (folder, listing)

    def say(self, note: str) -> None:
        """Tell how far it is; ``note`` stays until there is another one."""
        with self._speaking:
            self._note = note
            _speak({"progress": asdict(self._progress())})

    def fail(self, error: ModelError) -> None:
        """The last word."""
        with self._speaking:
            _speak({"failed": {"reason": error.reason, "message": error.message, "hint": error.hint}})

    def keep_saying(self) -> None:
        """Tell how far it is again and again; for a thread of its own, which ends with the process."""
        pause = threading.Event()
        while not pause.wait(INTERVAL_SECONDS):
            self.say(self._note)

    def as_log(self) -> logging.Handler:
        """A handler that makes notes of warnings: the library waits by itself, too, and tells so there."""
        handler = logging.Handler(logging.WARNING)
        handler.emit = lambda record: self.say(record.getMessage().splitlines()[0])  # type: ignore[method-assign] # one method
        return handler

    def _progress(self) -> PullProgress:
        if self._subject is None:
            return PullProgress(note=self._note)
        folder, listing = self._subject
        return PullProgress(listing.commit, folder.bytes_done(listing), listing.bytes_total, self._note)


def heard_progress(line: str) -> PullProgress | None:
    """The progress that ``line`` tells; None of any other line."""
    try:
        return PullProgress(**json.loads(line)["progress"])
    except (ValueError, KeyError, TypeError):
        return None


def heard_failure(lines: list[str]) -> ModelError:
    """Why a child failed that said ``lines`` last."""
    for line in reversed(lines):
        try:
            failed = json.loads(line)["failed"]
            return BY_REASON.get(failed["reason"], ModelError)(failed["message"], failed["hint"])
        except (ValueError, KeyError, TypeError):
            continue
    last = next((line for line in reversed(lines) if line and not line.startswith("{")), "it was ended from outside")
    return PullBrokenOffError(
        f"the pull broke off: {last}", "What is there is kept. `studio models pull` goes on with it."
    )


def _speak(said: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()
