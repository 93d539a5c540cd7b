"""What pip's output says about how far it is."""

from collections.abc import Callable

from studio.v1.replica_pb2 import StartProgress


class PipProgress:
    """Counts packages over one call of pip and reports each step."""

    def __init__(self, what: str, packages: int | None, report: Callable[[StartProgress], None]) -> None:
        self._what = what
        self._packages = packages
        self._report = report
        self._collected = 0

    def line(self, line: str) -> None:
        """Take in one line of pip's output."""
        match line.split():
            # Pip says "processing" of a file that is on the host already.
            case ["Collecting" | "Processing", *_]:
                self._collected += 1
                of_all = f" of {self._packages}" if self._packages else ""
                self._say(f"{self._collected}{of_all} packages collected")
            case ["Downloading", what, *_] if self._collected:
                self._say(f"downloading {what.rpartition('/')[2]}")
            case ["Installing", "collected", "packages:", *names]:
                self._say(f"unpacking {len(names)} packages")

    def _say(self, step: str) -> None:
        said = StartProgress(phase=StartProgress.PHASE_ENVIRONMENT, detail=f"installing {self._what}: {step}")
        if self._packages:
            said.share = min(1.0, self._collected / self._packages)
        self._report(said)
