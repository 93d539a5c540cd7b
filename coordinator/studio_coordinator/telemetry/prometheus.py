"""The figures on the coordinator's Prometheus page."""

from collections.abc import Callable, Iterable, Sequence

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from studio_coordinator.telemetry.samples import ALL, Report, samples


class FleetCollector(Collector):
    """Asked by the page's own thread; ``reports`` must be safe to call there."""

    def __init__(self, reports: Callable[[], Sequence[Report]]) -> None:
        self._reports = reports

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing: what there is differs from moment to moment."""
        return ()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """One family for each metric that has a value."""
        families = {metric: GaugeMetricFamily(metric.name, metric.help, labels=metric.labels) for metric in ALL}
        for sample in samples(self._reports()):
            families[sample.metric].add_metric(sample.labels, sample.value)
        return [family for family in families.values() if family.samples]


class Exported:
    """Registered while the block runs."""

    def __init__(self, reports: Callable[[], Sequence[Report]], registry: CollectorRegistry = REGISTRY) -> None:
        self._collector = FleetCollector(reports)
        self._registry = registry

    def __enter__(self) -> None:
        """Register."""
        self._registry.register(self._collector)

    def __exit__(self, *_: object) -> None:
        """Take it away again: a process may run several coordinators, one after the other."""
        self._registry.unregister(self._collector)
