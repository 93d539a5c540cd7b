"""The latest figures of each engine, by its token: read by whoever supervises it, shown by telemetry.

Every engine is read by its own replica's job, so a slow one delays nobody but itself.
"""

from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.replica_pb2 import ReplicaFigures

from studio_agent.engines.base import Driver
from studio_agent.plan.record import Engine
from studio_agent.probe import PROBE_TIMEOUT_SECONDS, Prober


class Readings:
    """What the engines of this host said last. Tokens are never used twice, so a restarted engine counts from zero."""

    def __init__(self) -> None:
        self._latest: dict[str, ReplicaFigures] = {}

    async def read(
        self, prober: Prober, url: str, engine: Engine, driver: Driver, limit_seconds: float = PROBE_TIMEOUT_SECONDS
    ) -> ReplicaFigures | None:
        """Ask the engine at ``url`` now; None when its metrics cannot be read, and then what is known of it is stale."""
        previous = self._latest.get(engine.token)
        text = await prober.metrics_text(url, limit_seconds)
        if text is None:
            if previous is not None:
                previous.stale = True
            return None
        at = Timestamp()
        at.GetCurrentTime()
        figures = with_rate(driver.figures(text, at), previous)
        self._latest[engine.token] = figures
        return figures

    def latest(self, token: str, now: float, fresh_seconds: float) -> ReplicaFigures | None:
        """A copy of what is known; older than ``fresh_seconds`` it is stale. ``now``: seconds since the epoch."""
        if (known := self._latest.get(token)) is None:
            return None
        figures = ReplicaFigures()
        figures.CopyFrom(known)
        figures.stale = known.stale or now - known.at.ToNanoseconds() / 1e9 > fresh_seconds
        return figures

    def forget(self, token: str) -> None:
        """The engine is gone."""
        self._latest.pop(token, None)


def with_rate(figures: ReplicaFigures, previous: ReplicaFigures | None) -> ReplicaFigures:
    """The figures with tokens per second since ``previous``; absent where it cannot be told."""
    if previous is None or not (
        figures.HasField("generation_tokens_total") and previous.HasField("generation_tokens_total")
    ):
        return figures
    seconds = (figures.at.ToNanoseconds() - previous.at.ToNanoseconds()) / 1e9
    tokens = figures.generation_tokens_total - previous.generation_tokens_total
    if seconds > 0 and tokens >= 0:
        figures.generation_tokens_per_second = tokens / seconds
    return figures
