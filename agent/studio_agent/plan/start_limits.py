"""How long an engine may take to start: two limits instead of one.

An engine that shows no progress is given up soon. One that does may take long, and the longer the more it has to read: the total
grows with the size of the model's files.
"""

from dataclasses import dataclass

STALLED = "start_stalled"
TIMED_OUT = "start_timeout"


@dataclass(frozen=True)
class StartLimits:
    """What a start may take."""

    # Without a line in its log that tells of a further step: compiling and capturing graphs are long and quiet.
    no_progress_seconds: float = 600.0
    # In all, beside reading the model.
    total_seconds: float = 1800.0
    # A slow disk, or a network file system that others use as well.
    slowest_bytes_per_second: float = 50e6

    def whole(self, model_bytes: int) -> float:
        """The total for a model whose files have ``model_bytes``, in seconds; 0: not known."""
        return self.total_seconds + model_bytes / self.slowest_bytes_per_second


@dataclass(frozen=True)
class Overdue:
    """A limit that is over; ``reason`` is the failure's word, ``clause`` completes "it was stopped because"."""

    reason: str
    clause: str


def overdue(limits: StartLimits, model_bytes: int, running_seconds: float, quiet_seconds: float) -> Overdue | None:
    """Which limit is over for an engine that started ``running_seconds`` ago and last progressed ``quiet_seconds`` ago."""
    whole = limits.whole(model_bytes)
    if running_seconds > whole:
        size = f", as long as {model_bytes / 2**30:.1f} GiB of model files may take" if model_bytes else ""
        return Overdue(TIMED_OUT, f"it was not ready after {whole:.0f} s{size}")
    if quiet_seconds > limits.no_progress_seconds:
        return Overdue(STALLED, f"it made no progress for {limits.no_progress_seconds:.0f} s")
    return None
