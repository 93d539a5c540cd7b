"""The common figures out of an engine's Prometheus page.

An engine with several data-parallel ranks has one series for each: counts are summed, shares averaged. What the page lacks stays
absent in the figures; it is never zero.
"""

from dataclasses import astuple, dataclass, field

from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.replica_pb2 import Histogram, ReplicaFigures

from studio_agent.engines.exposition import samples


@dataclass(frozen=True)
class MetricNames:
    """What an engine calls each figure: names of samples; of the histograms, the name without `_bucket`.

    "": the engine does not tell it. The prefix hit share comes from two counters, or from a gauge.
    """

    running: str
    waiting: str
    prompt_tokens_total: str
    generation_tokens_total: str
    kv_used_share: str = ""
    prefix_queries_total: str = ""
    prefix_hits_total: str = ""
    prefix_hit_share: str = ""
    ttft_histogram: str = ""
    itl_histogram: str = ""


@dataclass
class _Page:
    """Values by sample name, one for each series; buckets by histogram and upper bound, summed."""

    values: dict[str, list[float]] = field(default_factory=dict)
    buckets: dict[str, dict[float, float]] = field(default_factory=dict)

    def total(self, name: str) -> float | None:
        found = self.values.get(name)
        return sum(found) if found else None

    def mean(self, name: str) -> float | None:
        found = self.values.get(name)
        return sum(found) / len(found) if found else None

    def histogram(self, name: str) -> Histogram | None:
        buckets = self.buckets.get(name)
        if not buckets:
            return None
        bounds = sorted(buckets)
        return Histogram(
            upper_bounds=bounds,
            counts=[int(buckets[bound]) for bound in bounds],
            sum=self.total(f"{name}_sum") or 0.0,
            count=int(self.total(f"{name}_count") or 0),
        )


def read(metrics_text: str, at: Timestamp, names: MetricNames) -> ReplicaFigures:
    """Figures at ``at``. A page that breaks off keeps what came before and is marked stale."""
    page = _Page()
    stale = False
    try:
        for name, bound, value in samples(metrics_text, tuple(filter(None, astuple(names)))):
            if bound is not None:
                bounds = page.buckets.setdefault(name.removesuffix("_bucket"), {})
                bounds[bound] = bounds.get(bound, 0.0) + value
            else:
                page.values.setdefault(name, []).append(value)
    except ValueError:
        stale = True
    # A field that is given None stays absent.
    return ReplicaFigures(
        at=at,
        stale=stale,
        running=page.total(names.running),
        waiting=page.total(names.waiting),
        kv_used_share=page.mean(names.kv_used_share),
        prompt_tokens_total=page.total(names.prompt_tokens_total),
        generation_tokens_total=page.total(names.generation_tokens_total),
        prefix_hit_share=_prefix_hit_share(page, names),
        time_to_first_token_seconds=page.histogram(names.ttft_histogram),
        inter_token_seconds=page.histogram(names.itl_histogram),
    )


def _prefix_hit_share(page: _Page, names: MetricNames) -> float | None:
    queries, hits = page.total(names.prefix_queries_total), page.total(names.prefix_hits_total)
    if queries and hits is not None:
        return hits / queries
    return page.mean(names.prefix_hit_share)
