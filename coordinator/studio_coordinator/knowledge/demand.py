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
from collections import deque
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

    def note(self, present: "_Present", now: float) -> None:
        """Go on with what is said now."""
        if not present.held:
            self.held_since = None
        elif self.held_since is None:
            self.held_since = now
        if present.held or present.in_flight:
            self.last_at = now

    def demand(self, present: "_Present", now: float) -> Demand:
        """For the plan."""
        return Demand(
            held=present.held,
            told_seconds_ago=present.told_seconds_ago,
            waited_seconds=now - self.held_since if self.held_since is not None else 0.0,
            in_flight=present.in_flight,
            idle_seconds=now - self.last_at,
            requests_per_minute=sum(count for _, count in self.recent) * 60 / REMEMBERED_SECONDS,
        )


@dataclass
class _Present:
    """What all gateways say of one deployment now."""

    held: int = 0
    told_seconds_ago: float = 0.0
    in_flight: int = 0

    def add(self, traffic: ModelTraffic, age: float) -> None:
        """Count in what one gateway said so long ago."""
        if traffic.held:
            self.told_seconds_ago = min(self.told_seconds_ago, age) if self.held else age
        self.held += traffic.held
        self.in_flight += traffic.in_flight


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
        heard: Iterable[tuple[TrafficReport, float]],
        *,
        all_known: bool,
    ) -> dict[str, Demand]:
        """By deployment; those of which it is not known are left out.

        ``heard``: the newest report of each gateway, and seconds since it came. ``all_known``: no gateway is away or silent.
        """
        now = self._clock()
        owners = _owners(deployments, recipes)
        self._uses = {item.name: self._uses.get(item.name) or _Use(now) for item in deployments}
        present = {item.name: _Present() for item in deployments}
        for report, age in heard:
            for traffic in report.models:
                name = owners.get(traffic.model)
                if name is not None:
                    present[name].add(traffic, age)
                    self._count(report.gateway_instance_id, name, traffic, now)
        for name, use in self._uses.items():
            use.note(present[name], now)
        return {
            name: use.demand(present[name], now) for name, use in self._uses.items() if present[name].held or all_known
        }

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


def _owners(deployments: Sequence[Deployment], recipes: Mapping[tuple[str, int], Recipe]) -> dict[str, str]:
    """The deployment that each model name belongs to."""
    owners = {}
    for item in deployments:
        recipe = recipes.get((item.spec.recipe, item.target_revision), Recipe())
        owners.update({adapter.name: item.name for adapter in recipe.lora})
    return owners | {item.name: item.name for item in deployments}
