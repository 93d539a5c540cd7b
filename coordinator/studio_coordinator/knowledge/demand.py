"""How each deployment is asked for, told from the reports of all gateways: the input of the idle ladder and of waking.

Nobody is taken for idle by mistake:

- while a gateway is away, or silent, nothing is known of who is idle; one that is gone for good is forgotten as its tables are
- a deployment that is seen for the first time counts as just asked for
- a new leader goes on from what was kept (`store.last_requests`), which is never later than the truth, and from what gateways
  say of the time before

Requests for an adapter of a deployment are requests for it. Times are of a clock that only goes forward; a gateway's own clock is
believed only for the time before it called here, and never to be ahead.
"""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog
from studio.v1.deployment_pb2 import Deployment
from studio.v1.recipe_pb2 import Recipe
from studio.v1.route_service_pb2 import ModelTraffic, TrafficReport
from studio_runtime.errors import StudioError

from studio_coordinator.leadership import Leadership
from studio_coordinator.plan.ladder import Demand
from studio_coordinator.store import last_requests
from studio_coordinator.store.database import Database

log = structlog.get_logger()

REMEMBERED_SECONDS = 600.0
KEEP_SECONDS = 60.0


@dataclass
class _Use:
    """One deployment's past."""

    last_at: float
    held_since: float | None = None
    # (when, requests that came then) of the last `REMEMBERED_SECONDS`.
    recent: deque[tuple[float, int]] = field(default_factory=deque)


class DemandLog:
    """Looked at once a pass; ``clock`` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._uses: dict[str, _Use] = {}
        # Requests so far, by gateway instance and model.
        self._counted: dict[tuple[str, str], int] = {}
        self.term = 0

    def begin(self, term: int, kept: Mapping[str, datetime], now: datetime) -> None:
        """A new term of leadership begins, with what an earlier leader kept."""
        self.term = term
        self._counted.clear()
        at = self._clock()
        self._uses = {name: _Use(at - max(0.0, (now - when).total_seconds())) for name, when in kept.items()}

    def demands(
        self,
        deployments: Sequence[Deployment],
        recipes: Mapping[tuple[str, int], Recipe],
        reports: Iterable[TrafficReport],
        *,
        all_known: bool,
    ) -> dict[str, Demand]:
        """By deployment; those of which it is not known are left out. ``all_known``: no gateway is away or silent."""
        now = self._clock()
        owners = _owners(deployments, recipes)
        held: dict[str, int] = defaultdict(int)
        in_flight: dict[str, int] = defaultdict(int)
        for item in deployments:
            self._uses.setdefault(item.name, _Use(now))
        for gone in self._uses.keys() - {item.name for item in deployments}:
            del self._uses[gone]
        for report in reports:
            for traffic in report.models:
                name = owners.get(traffic.model)
                if name is not None:
                    held[name] += traffic.held
                    in_flight[name] += traffic.in_flight
                    self._count(report.gateway_instance_id, name, traffic, now)
        found = {}
        for name, use in self._uses.items():
            if not held[name]:
                use.held_since = None
            elif use.held_since is None:
                use.held_since = now
            if held[name] or in_flight[name]:
                use.last_at = now
            if held[name] or all_known:
                found[name] = _demand(use, held[name], in_flight[name], now)
        return found

    def last_uses(self, now: datetime) -> dict[str, datetime]:
        """When each deployment was last asked for."""
        at = self._clock()
        return {name: now - timedelta(seconds=at - use.last_at) for name, use in self._uses.items()}

    async def keep(self, database: Database, leadership: Leadership) -> None:
        """Store it every minute while this process leads, for the next leader."""
        while True:
            await asyncio.sleep(KEEP_SECONDS)
            if not leadership.is_leader or self.term != leadership.term:
                continue
            try:
                async with database.transaction() as conn:
                    await last_requests.note_requests(conn, self.last_uses(datetime.now(UTC)))
            except StudioError as error:
                log.warning("last_requests_not_stored", reason=error.message)

    def _count(self, instance: str, name: str, traffic: ModelTraffic, now: float) -> None:
        use, key = self._uses[name], (instance, traffic.model)
        before = self._counted.get(key)
        self._counted[key] = traffic.requests
        if before is None:
            if traffic.HasField("last_request_at"):
                ago = max(0.0, time.time() - traffic.last_request_at.ToMilliseconds() / 1000)
                use.last_at = max(use.last_at, now - ago)
            return
        if traffic.requests > before:
            use.last_at = now
            use.recent.append((now, traffic.requests - before))
        while use.recent and now - use.recent[0][0] > REMEMBERED_SECONDS:
            use.recent.popleft()


def _demand(use: _Use, held: int, in_flight: int, now: float) -> Demand:
    return Demand(
        held=held,
        waited_seconds=now - use.held_since if use.held_since is not None else 0.0,
        in_flight=in_flight,
        idle_seconds=now - use.last_at,
        requests_per_minute=sum(count for _, count in use.recent) * 60 / REMEMBERED_SECONDS,
    )


def _owners(deployments: Sequence[Deployment], recipes: Mapping[tuple[str, int], Recipe]) -> dict[str, str]:
    """The deployment that each model name belongs to."""
    owners = {}
    for item in deployments:
        recipe = recipes.get((item.spec.recipe, item.target_revision), Recipe())
        owners.update({adapter.name: item.name for adapter in recipe.lora})
    return owners | {item.name: item.name for item in deployments}
