"""OpenTelemetry traces, off the network unless an endpoint is named.

``OTEL_EXPORTER_OTLP_ENDPOINT`` sends spans there; ``STUDIO_TRACE_FILE`` appends them to a file, one JSON object a line. With
neither, spans are made (so that ``traceparent`` reaches the engine) and dropped. The long-lived streams are not traced: a span
is one request, or one start of an engine.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_PROPAGATOR = TraceContextTextMapPropagator()


class FileSpanExporter(SpanExporter):
    """Append each finished span to a file as one line of JSON."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write ``spans``; one ``write`` call, so that several processes can share the file."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write("".join(span.to_json(indent=None) + "\n" for span in spans))
        return SpanExportResult.SUCCESS


def configure_tracing(service: str) -> None:
    """Set up the process's tracer provider for ``service``."""
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - 0.1 s

        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    if path := os.environ.get("STUDIO_TRACE_FILE"):
        provider.add_span_processor(SimpleSpanProcessor(FileSpanExporter(Path(path))))
    trace.set_tracer_provider(provider)


def flush_tracing() -> None:
    """Send what is still held; call it before the process ends."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.shutdown()


@contextmanager
def span(name: str, traceparent: str = "", **attributes: str | float | bool) -> Iterator[trace.Span]:
    """Run a block as a span; below ``traceparent`` (W3C) where one is given, else below the current span."""
    parent = _PROPAGATOR.extract({"traceparent": traceparent}) if traceparent else None
    with trace.get_tracer("studio").start_as_current_span(name, context=parent, attributes=attributes) as current:
        yield current


def current_traceparent() -> str:
    """The W3C ``traceparent`` of the current span; empty outside of any."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent", "")


def traceparent_of(headers: Mapping[str, str | bytes]) -> str:
    """The ``traceparent`` among the lower-case ``headers`` or gRPC metadata of a call; empty where there is none."""
    value = headers.get("traceparent", "")
    return value if isinstance(value, str) else value.decode("ascii", "replace")
