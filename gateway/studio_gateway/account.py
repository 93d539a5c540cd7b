"""One request's account: what is known of it by the time it ends, as a usage record and in the metrics."""

import time
from dataclasses import dataclass, field

from google.protobuf.timestamp_pb2 import Timestamp
from prometheus_client import CollectorRegistry, Counter, Gauge
from studio.v1.route_pb2 import UsageRecord

from studio_gateway.call import GENERATING
from studio_gateway.tally import Tally
from studio_gateway.usage import Usage


class Metrics:
    """What Prometheus sees of the gateway. ``model`` is a public name, or empty where a request named none that exists."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str) -> Counter:
            return Counter(f"studio_gateway_{name}", text, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"studio_gateway_{name}", text, registry=registry)

        self.tally = Tally()
        registry.register(self.tally)
        self.retries = counter("retries", "Requests sent a second time, before anything had come back.")
        self.fallbacks = counter("fallbacks", "Requests that another model was asked to answer instead.")
        self.ejections = counter("ejections", "Endpoints left out for a while because they failed.")
        self.refused_tables = counter("refused_tables", "Tables of the coordinator that were not put in force.")
        self.usage_lost = counter("usage_records_lost", "Usage records given up because memory and spool were full.")
        self.in_flight = gauge("requests_in_flight", "Requests that have not ended.")
        self.connections = gauge("connections", "Connections of clients.")
        self.route_version = gauge("route_version", "Version of the route table in force.")
        self.access_version = gauge("access_version", "Version of the key table in force.")
        self.connected = gauge("coordinator_connected", "1 while the stream of tables is open.")
        self.spool_bytes = gauge("usage_spool_bytes", "Usage on disk that the coordinator does not have yet.")


# Ends before which an engine may have worked, without saying how much.
BROKEN_OFF = frozenset(("client_gone", "upstream_error", "timeout", "shutting_down", "gateway_error"))
STATUS_OK = 200


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
    # An engine or a provider has got it, and may have worked.
    is_asked: bool = False
    stream: bool = False
    status: int = 0
    finish: str = ""
    first_token: float | None = None
    usage: Usage = field(default_factory=Usage)
    # Held before it was sent to an engine: for a limit to be looked up, for a model to wake.
    queue_seconds: float = 0.0

    def first_byte_of_stream(self) -> None:
        """Call it when the first event has come from the engine."""
        self.first_token = time.perf_counter() - self.began

    def close(self, metrics: Metrics) -> UsageRecord | None:
        """Count the request; returns its record, None where no key is accountable or no model was asked for."""
        duration = time.perf_counter() - self.began
        metrics.tally.count(self.model, self.status, duration, self.first_token, self.usage)
        return self._record(duration) if self.key_id and self.asked_model else None

    def _record(self, duration: float) -> UsageRecord:
        seconds = int(self.at)
        return UsageRecord(
            request_id=self.request_id,
            at=Timestamp(seconds=seconds, nanos=int((self.at - seconds) * 1e9)),
            key_id=self.key_id,
            tenant=self.tenant,
            model=self.model or _storable(self.asked_model),
            replica_id=self.replica_id,
            recipe_revision=self.recipe_revision,
            provider=self.provider,
            path=_storable(self.path),
            status=self.status,
            stream=self.stream,
            prompt_tokens=self.usage.prompt,
            completion_tokens=self.usage.completion,
            cached_tokens=self.usage.cached,
            time_to_first_token_seconds=self.first_token,
            duration_seconds=duration,
            finish=self.finish,
            queue_seconds=self.queue_seconds,
            inter_token_seconds=self._inter_token(duration),
        )

    def _inter_token(self, duration: float) -> float | None:
        """The mean distance between two tokens of a stream."""
        if self.first_token is None or self.usage.completion < 2:  # noqa: PLR2004 - one token has no distance to another
            return None
        return (duration - self.first_token) / (self.usage.completion - 1)

    @property
    def first_token_of_engine(self) -> float | None:
        """Seconds from when an engine could have been asked to the first event of its stream."""
        return None if self.first_token is None else max(0.0, self.first_token - self.queue_seconds)

    @property
    def ended_unknown(self) -> bool:
        """An engine may have worked, and its own count of all that it did never came."""
        if not self.is_asked:
            return False
        if self.finish in BROKEN_OFF:
            return not self.usage.is_final
        return self.status == STATUS_OK and self.path in GENERATING and not self.usage.is_counted


def _storable(said: str) -> str:
    """What a client said, as a database takes it: not endless, and without a NUL, which would hold up its whole batch."""
    return said[:200].replace("\0", "\ufffd")
