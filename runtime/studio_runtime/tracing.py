"""OpenTelemetry traces, off the network unless an endpoint is named.

``OTEL_EXPORTER_OTLP_ENDPOINT`` sends spans there; ``STUDIO_TRACE_FILE`` appends them to a file, one JSON object a line. With
neither, spans are made (so that ``traceparent`` reaches the engine) and dropped. The long-lived streams are not traced: a span
is one request, or one start of an engine. What is hidden in logs is hidden in spans.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Status
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import Attributes

from studio_runtime.logging import redacted

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


class RedactedSpans(SpanExporter):
    """Gives spans on without secrets: neither in attributes, nor in what an exception said."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """As ``inner`` does."""
        return self._inner.export([_without_secrets(span) for span in spans])

    def shutdown(self) -> None:
        """As ``inner`` does."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """As ``inner`` does."""
        return self._inner.force_flush(timeout_millis)


def _without_secrets(span: ReadableSpan) -> ReadableSpan:
    status = span.status
    return ReadableSpan(
        name=redacted(span.name),
        context=span.get_span_context(),
        parent=span.parent,
        resource=span.resource,
        attributes=_texts_redacted(span.attributes),
        events=[Event(event.name, _texts_redacted(event.attributes), event.timestamp) for event in span.events],
        links=span.links,
        kind=span.kind,
        instrumentation_scope=span.instrumentation_scope,
        status=Status(status.status_code, redacted(status.description) if status.description else None),
        start_time=span.start_time,
        end_time=span.end_time,
    )


def _texts_redacted(attributes: Attributes) -> Attributes:
    return {name: redacted(one) if isinstance(one, str) else one for name, one in (attributes or {}).items()}


def configure_tracing(service: str) -> None:
    """Set up the process's tracer provider for ``service``."""
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - 0.1 s

        provider.add_span_processor(BatchSpanProcessor(RedactedSpans(OTLPSpanExporter())))
    if path := os.environ.get("STUDIO_TRACE_FILE"):
        provider.add_span_processor(SimpleSpanProcessor(RedactedSpans(FileSpanExporter(Path(path)))))
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
