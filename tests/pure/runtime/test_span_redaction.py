"""Spans leave the process without secrets, wherever in them one stands."""

import json
from contextlib import suppress
from pathlib import Path

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from studio_runtime.logging import hide
from studio_runtime.tracing import FileSpanExporter, RedactedSpans

BY_VALUE, BY_FORM = "sentinel-value-9b1c", "sk-abcdefghijkl-0123456789"


def test_no_attribute_name_or_exception_gives_a_secret_away(tmp_path: Path) -> None:
    hide(BY_VALUE)
    file = tmp_path / "spans.jsonl"
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(RedactedSpans(FileSpanExporter(file))))
    tracer = provider.get_tracer("test")
    attributes: dict[str, str | int] = {"model": BY_FORM, "reason": f"no: {BY_VALUE}", "count": 3}
    with (
        suppress(RuntimeError),
        tracer.start_as_current_span(f"get {BY_VALUE}", attributes=attributes) as span,
    ):
        span.add_event("told", {"text": f"Bearer {BY_VALUE}"})
        raise RuntimeError(f"refused {BY_VALUE} and {BY_FORM}")
    text = file.read_text()
    (told,) = [json.loads(line) for line in text.splitlines()]
    assert BY_VALUE not in text
    assert BY_FORM not in text
    # What is no secret is there as it was.
    assert told["attributes"]["count"] == 3
    assert told["attributes"]["reason"] == "no: …"
    assert told["status"]["description"] == "RuntimeError: refused … and sk-…"
    assert [event["name"] for event in told["events"]] == ["told", "exception"]
    assert told["context"]["trace_id"].startswith("0x")
