"""The figures as OTLP metrics, where an endpoint is named.

``OTEL_EXPORTER_OTLP_ENDPOINT`` or ``OTEL_EXPORTER_OTLP_METRICS_ENDPOINT`` switch it on; ``OTEL_METRIC_EXPORT_INTERVAL``, in
milliseconds, says how often. Reading and sending happen in the exporter's own thread.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from studio_coordinator.telemetry.samples import ALL, Metric, Report, Sample, samples

# Stopping does not wait longer for whoever collects.
FLUSH_MILLISECONDS = 2_000
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")


@contextmanager
def exporting(reports: Callable[[], Sequence[Report]], environment: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Export while the block runs, where an endpoint is named."""
    if not any(environment.get(name) for name in ENDPOINTS):
        yield
        return
    # A tenth of a second that few coordinators need.
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415 - as above
    from opentelemetry.metrics import CallbackOptions, Observation  # noqa: PLC0415 - as above
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415 - as above
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: PLC0415 - as above
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - as above

    # The first metric that is asked for reads all reports, the others use the same reading.
    reading = _Reading(reports)

    def observe(metric: Metric) -> Callable[[CallbackOptions], Iterable[Observation]]:
        return lambda _: [
            Observation(sample.value, dict(zip(metric.labels, sample.labels, strict=True)))
            for sample in reading.of(metric)
        ]

    provider = MeterProvider(
        [PeriodicExportingMetricReader(OTLPMetricExporter())], Resource.create({"service.name": "studio-coordinator"})
    )
    meter = provider.get_meter("studio")
    for metric in ALL:
        meter.create_observable_gauge(metric.name, [observe(metric)], description=metric.help)
    try:
        yield
    finally:
        provider.shutdown(timeout_millis=FLUSH_MILLISECONDS)


class _Reading:
    """The samples of one export."""

    def __init__(self, reports: Callable[[], Sequence[Report]]) -> None:
        self._reports = reports
        self._found: dict[Metric, list[Sample]] = {}

    def of(self, metric: Metric) -> list[Sample]:
        """The samples of a metric; asked for the first one, everything is read anew."""
        if metric is ALL[0]:
            self._found = {one: [] for one in ALL}
            for sample in samples(self._reports()):
                self._found[sample.metric].append(sample)
        return self._found.get(metric, [])
