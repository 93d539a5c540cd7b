"""Counts of requests by model, kept as plain numbers and turned into metrics when Prometheus asks.

A request ends thousands of times a second, a scrape comes every few seconds: the work is done at the scrape.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from studio.v1.replica_pb2 import Histogram

from studio_gateway.usage import Usage

FIRST_TOKEN_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
DURATION_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
PREFIX = "studio_gateway_"


class Spread:
    """How many values fell into each bucket."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def histogram(self) -> Histogram:
        """The same for the coordinator: how many were up to each bound, and how many there are."""
        upto = list(accumulate(self._counts))
        return Histogram(upper_bounds=self._bounds, counts=upto[:-1], sum=self._sum, count=upto[-1])

    def put_into(self, family: HistogramMetricFamily, model: str) -> None:
        """Add this to what Prometheus is told."""
        names = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        buckets = [(name, float(count)) for name, count in zip(names, accumulate(self._counts), strict=True)]
        family.add_metric([model], buckets, self._sum)


class ModelTally:
    """What is counted of one model."""

    __slots__ = ("duration", "first_token", "statuses", "tokens")

    def __init__(self) -> None:
        self.statuses: dict[int, int] = defaultdict(int)
        self.tokens: dict[str, int] = defaultdict(int)
        self.first_token = Spread(FIRST_TOKEN_BUCKETS)
        self.duration = Spread(DURATION_BUCKETS)


class Tally(Collector):
    """All models; the name is empty for requests that named none that exists."""

    def __init__(self) -> None:
        self._models: dict[str, ModelTally] = defaultdict(ModelTally)

    def count(self, model: str, status: int, seconds: float, first_token: float | None, usage: Usage) -> None:
        """Count one request that has ended."""
        tally = self._models[model]
        tally.statuses[status] += 1
        if not model:
            return
        tally.duration.add(seconds)
        if first_token is not None:
            tally.first_token.add(first_token)
        tokens = tally.tokens
        tokens["prompt"] += usage.prompt
        tokens["completion"] += usage.completion
        tokens["cached"] += usage.cached

    def collect(self) -> Iterator[CounterMetricFamily | HistogramMetricFamily]:
        """What Prometheus is told; runs in the thread of the scrape."""
        requests = CounterMetricFamily(PREFIX + "requests", "Requests that have ended.", labels=["model", "status"])
        tokens = CounterMetricFamily(
            PREFIX + "tokens", "Tokens, as engines and providers counted them.", labels=["model", "kind"]
        )
        first_token = HistogramMetricFamily(
            PREFIX + "time_to_first_token_seconds", "Until the first event of a stream.", labels=["model"]
        )
        duration = HistogramMetricFamily(
            PREFIX + "request_duration_seconds", "Until the end of the answer.", labels=["model"]
        )
        for model, tally in list(self._models.items()):
            for status, count in list(tally.statuses.items()):
                requests.add_metric([model, str(status)], count)
            for kind, count in list(tally.tokens.items()):
                tokens.add_metric([model, kind], count)
            if model:
                tally.first_token.put_into(first_token, model)
                tally.duration.put_into(duration, model)
        yield from (requests, tokens, first_token, duration)
