"""One request's account: what is known of it by the time it ends, as a usage record and in the metrics."""

import time
from dataclasses import dataclass, field

from google.protobuf.timestamp_pb2 import Timestamp
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from studio.v1.route_pb2 import UsageRecord

from studio_gateway.usage import Usage

FIRST_TOKEN_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
DURATION_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)


class Metrics:
    """What Prometheus sees of the gateway. ``model`` is a public name, or empty where a request named none that exists."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"studio_gateway_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"studio_gateway_{name}", text, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"studio_gateway_{name}", text, ("model",), registry=registry, buckets=buckets)

        self.requests = counter("requests", "Requests that have ended.", "model", "status")
        self.tokens = counter("tokens", "Tokens, as engines and providers counted them.", "model", "kind")
        self.retries = counter("retries", "Requests sent a second time, before anything had come back.")
        self.ejections = counter("ejections", "Endpoints left out for a while after a failure to connect.")
        self.refused_tables = counter("refused_tables", "Tables of the coordinator that were not put in force.")
        self.usage_lost = counter("usage_records_lost", "Usage records given up because memory and spool were full.")
        self.in_flight = gauge("requests_in_flight", "Requests that have not ended.")
        self.route_version = gauge("route_version", "Version of the route table in force.")
        self.access_version = gauge("access_version", "Version of the key table in force.")
        self.connected = gauge("coordinator_connected", "1 while the stream of tables is open.")
        self.spool_bytes = gauge("usage_spool_bytes", "Usage on disk that the coordinator does not have yet.")
        self.first_token = histogram(
            "time_to_first_token_seconds", "Until the first event of a stream.", FIRST_TOKEN_BUCKETS
        )
        self.duration = histogram("request_duration_seconds", "Until the end of the answer.", DURATION_BUCKETS)


@dataclass(slots=True)
class Account:
    """What is known of one request so far; ``key_id`` is empty for one that nobody is accountable for."""

    request_id: str
    path: str
    began: float = field(default_factory=time.perf_counter)
    at: float = field(default_factory=time.time)
    key_id: str = ""
    tenant: str = ""
    # A public name that exists.
    model: str = ""
    # What the client asked for, which may be a name that nobody has.
    asked_model: str = ""
    replica_id: str = ""
    recipe_revision: int = 0
    provider: str = ""
    stream: bool = False
    status: int = 0
    finish: str = ""
    first_token: float | None = None
    usage: Usage = field(default_factory=Usage)

    def first_byte_of_stream(self) -> None:
        """Call it when the first event has come from the engine."""
        if self.first_token is None:
            self.first_token = time.perf_counter() - self.began

    def close(self, metrics: Metrics) -> UsageRecord | None:
        """Count the request; returns its record, None where no key is accountable or no model was asked for."""
        duration = time.perf_counter() - self.began
        metrics.requests.labels(self.model, self.status).inc()
        if self.model:
            metrics.duration.labels(self.model).observe(duration)
            if self.first_token is not None:
                metrics.first_token.labels(self.model).observe(self.first_token)
            usage = self.usage
            for kind, count in (("prompt", usage.prompt), ("completion", usage.completion), ("cached", usage.cached)):
                if count:
                    metrics.tokens.labels(self.model, kind).inc(count)
        return self._record(duration) if self.key_id and self.asked_model else None

    def _record(self, duration: float) -> UsageRecord:
        at = Timestamp()
        at.FromNanoseconds(int(self.at * 1e9))
        return UsageRecord(
            request_id=self.request_id,
            at=at,
            key_id=self.key_id,
            tenant=self.tenant,
            model=self.model or self.asked_model[:200],
            replica_id=self.replica_id,
            recipe_revision=self.recipe_revision,
            provider=self.provider,
            path=self.path[:200],
            status=self.status,
            stream=self.stream,
            prompt_tokens=self.usage.prompt,
            completion_tokens=self.usage.completion,
            cached_tokens=self.usage.cached,
            time_to_first_token_seconds=self.first_token,
            duration_seconds=duration,
            finish=self.finish,
        )
