"""The trace that a request belongs to: a span of its own where spans go anywhere, else only the header for the engine.

A span object costs more than all the rest of a request, so none is made unless an exporter is configured.
"""

import os
import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

EXPORTERS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "STUDIO_TRACE_FILE")
# Version 00 of the W3C header; a number of all zeros is none.
TRACEPARENT = re.compile(r"00-((?!0{32})[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})")
PROPAGATOR = TraceContextTextMapPropagator()


@dataclass(slots=True)
class Trace:
    """``traceparent`` for the engine; ``end`` is called with the answer's status."""

    traceparent: str
    end: Callable[[int], None]


def tracing() -> Callable[[str, str, str], Trace]:
    """How this process begins the trace of a request: (client's traceparent, model, request id) to the trace."""
    return _begin_span if any(map(os.environ.get, EXPORTERS)) else _begin_unseen


def _begin_unseen(given: str, _model: str, _request_id: str) -> Trace:
    return Trace(child_of(given, random.randbytes), _nothing)


def _begin_span(given: str, model: str, request_id: str) -> Trace:
    context = PROPAGATOR.extract({"traceparent": given}) if given else None
    attributes = {"model": model, "request_id": request_id}
    span = trace.get_tracer("studio").start_span("gateway.request", context=context, attributes=attributes)
    carrier: dict[str, str] = {}
    PROPAGATOR.inject(carrier, context=trace.set_span_in_context(span))

    def end(status: int) -> None:
        span.set_attribute("status", status)
        span.end()

    return Trace(carrier.get("traceparent", ""), end)


def child_of(given: str, random_bytes: Callable[[int], bytes]) -> str:
    """A traceparent below ``given``; of a new trace, which is sampled, where that is none. All zeros are not to be expected."""
    found = TRACEPARENT.fullmatch(given) if given else None
    made = random_bytes(24).hex()
    if found is None:
        return f"00-{made[:32]}-{made[32:]}-01"
    return f"00-{found.group(1)}-{made[32:]}-{found.group(2)}"


def _nothing(_status: int) -> None:
    """No span to end."""
