"""What the coordinator is told of requests: which models are asked for, who waits, and how well each endpoint answers ★.

Counters only grow, so a report that is lost or repeated does no harm. ``now`` is in seconds since the epoch.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.route_service_pb2 import EndpointTraffic, ModelTraffic, TrafficReport

from studio_gateway.tally import FIRST_TOKEN_BUCKETS, Spread

# Ends of a request that are the engine's fault, as usage records name them.
ENGINES_FAULT = frozenset(("upstream_error", "timeout", "engine_error"))


@dataclass(slots=True)
class _Model:
    requests: int = 0
    last_request_at: float = 0.0
    held: int = 0
    in_flight: int = 0


@dataclass(slots=True)
class _Endpoint:
    requests: int = 0
    failed: int = 0
    first_token: Spread = field(default_factory=lambda: Spread(FIRST_TOKEN_BUCKETS))


class Traffic:
    """All models of the fleet and all endpoints; ``on_turn`` is called when somebody begins to wait for a model, or none does."""

    def __init__(self, instance_id: str) -> None:
        self.instance_id = instance_id
        self.on_turn: Callable[[], None] = lambda: None
        # Whether there is anything that was not reported.
        self.has_news = True
        self._models: dict[str, _Model] = {}
        self._endpoints: dict[tuple[str, int], _Endpoint] = {}

    def asked(self, model: str, now: float) -> None:
        """A request for ``model`` has come."""
        seen = self._of(model)
        seen.requests += 1
        seen.last_request_at = now
        self.has_news = True

    def held(self, model: str, change: int) -> None:
        """So many more wait for ``model``."""
        seen = self._of(model)
        was, seen.held = seen.held, seen.held + change
        self.has_news = True
        if bool(was) != bool(seen.held):
            self.on_turn()

    def sent(self, model: str) -> None:
        """A request goes to an engine."""
        self._of(model).in_flight += 1

    def ended(
        self, model: str, replica_id: str, revision: int, finish: str, first_token: float | None, now: float
    ) -> None:
        """A request that was sent has ended; ``first_token`` is in seconds from when it was sent."""
        seen = self._of(model)
        seen.in_flight -= 1
        seen.last_request_at = now
        self.has_news = True
        if not replica_id:
            return
        endpoint = self._endpoints.get((replica_id, revision))
        if endpoint is None:
            endpoint = self._endpoints[replica_id, revision] = _Endpoint()
        endpoint.requests += 1
        endpoint.failed += finish in ENGINES_FAULT
        if first_token is not None:
            endpoint.first_token.add(first_token)

    def forget_all_but(self, models: Collection[str], replica_ids: Collection[str]) -> None:
        """Drop what has no route any more."""
        self._models = {
            name: seen for name, seen in self._models.items() if name in models or seen.held or seen.in_flight
        }
        self._endpoints = {key: seen for key, seen in self._endpoints.items() if key[0] in replica_ids}

    def report(self, in_flight_of: Callable[[str], int]) -> TrafficReport:
        """Everything, as it is now; ``in_flight_of`` says how many requests a replica has from here."""
        self.has_news = False
        return TrafficReport(
            gateway_instance_id=self.instance_id,
            models=[
                ModelTraffic(
                    model=name,
                    requests=seen.requests,
                    last_request_at=_timestamp(seen.last_request_at),
                    held=seen.held,
                    in_flight=seen.in_flight,
                )
                for name, seen in self._models.items()
            ],
            endpoints=[
                EndpointTraffic(
                    replica_id=replica_id,
                    recipe_revision=revision,
                    requests=seen.requests,
                    failed=seen.failed,
                    time_to_first_token_seconds=seen.first_token.histogram(),
                    in_flight=in_flight_of(replica_id),
                )
                for (replica_id, revision), seen in self._endpoints.items()
            ],
        )

    def _of(self, model: str) -> _Model:
        seen = self._models.get(model)
        if seen is None:
            seen = self._models[model] = _Model()
        return seen


def _timestamp(seconds: float) -> Timestamp:
    return Timestamp(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))
