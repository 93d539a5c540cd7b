"""One story: operators change their minds, everything that can fail does, and then it is left alone and must come to rest."""

import asyncio
import logging
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import structlog
from fakes.world import stamp

from sim.cast import CAST, ON_DEMAND, ROLES, deployment_of, recipe_of
from sim.gateway import SimulatedGateway
from sim.host import HEARTBEAT_SECONDS, Engine, SimulatedHost
from sim.leader import TTL_SECONDS, SimulatedCoordinator
from sim.memory import Database
from sim.network import Network
from sim.operators import Operators
from sim.promises import BrokenPromiseError, Promises
from sim.revisions import Revisions
from sim.schedule import START, Schedule, VirtualTime
from sim.troubles import Troubles

HOSTS = 6
# Enough for a surge.
GPUS = 3
TROUBLE_SECONDS = 130.0
# At most; and after so long without a change nothing waits for a timer any more.
REST_SECONDS = 300.0
QUIET_SECONDS = 60.0


class Story:
    """Lives in a running `VirtualTime`."""

    def __init__(
        self, seed: int, *, cast: Sequence[str] = (), checks_epoch: bool = True, fences_terms: bool = True
    ) -> None:
        self.chance = random.Random(seed)
        # Names of the deployments; without any, those that chance picks.
        self._cast = cast or self.chance.sample(list(CAST), ROLES)
        self.schedule = Schedule()
        self.network = Network(self.schedule, self.chance)
        self.database = Database(self.schedule, checks_epoch=checks_epoch)
        self.promises = Promises(self)
        self.coordinators = [SimulatedCoordinator(self, number) for number in (1, 2)]
        self.gateways = [SimulatedGateway(self, number) for number in (1, 2)]
        self.revisions = Revisions(self)
        self.hosts = [SimulatedHost(self, number, GPUS, fences_terms=fences_terms) for number in range(1, HOSTS + 1)]
        self.operators, self.troubles = Operators(self), Troubles(self)
        # Models that somebody uses.
        self.asked: set[str] = set()
        self.is_calm = False
        # What happened, for whoever reads a broken promise.
        self.log: list[str] = []

    def host(self, host_id: str) -> SimulatedHost:
        return next(host for host in self.hosts if host.id == host_id)

    def parts(self, replica_id: str, engine: Engine) -> list[tuple[SimulatedHost, Engine]]:
        """Of an engine that spans hosts: all that would meet where it does."""
        if not engine.group_size:
            return []
        engines = [(host, host.engines[replica_id]) for host in self.hosts if replica_id in host.engines]
        return [(host, one) for host, one in engines if one.is_part_with(engine)]

    def crash_by_chance(self) -> bool:
        return not self.is_calm and self.chance.random() < 0.015

    def say(self, what: str) -> None:
        self.log.append(f"{self.schedule.now:7.1f} {what}")

    async def run(self) -> None:
        self._begin()
        await self.schedule.pass_time(TROUBLE_SECONDS)
        self._calm_down()
        end = TROUBLE_SECONDS + REST_SECONDS
        while self.schedule.now < end and not self._is_at_rest():
            await self.schedule.pass_time(1.0)
        self.promises.at_rest()

    def _is_at_rest(self) -> bool:
        return self.schedule.now - max(self.database.written_at, TROUBLE_SECONDS) > QUIET_SECONDS

    def _begin(self) -> None:
        rows = self.database.rows
        for host in self.hosts:
            host.row.last_seen.CopyFrom(stamp(START))
            rows.hosts[host.id] = host.row
            self._each(HEARTBEAT_SECONDS, host.beat)
        for name in self._cast:
            rows.recipes[name, 1] = recipe_of(name)
            rows.deployments[name] = deployment_of(name, self.chance.randint(1, 2))
        for coordinator in self.coordinators:
            self._each(TTL_SECONDS / 3, coordinator.keep_lease)
            self._each(5.0, coordinator.look_after_streams)
            self._each(10.0, coordinator.keep_notes)
        for gateway in self.gateways:
            self._each(2.0, gateway.beat)
        self._each(3.0, self._ask)
        self._each(20.0, self._change_who_is_asked)
        self._each(8.0, self.operators.act)
        self._each(8.0, self.troubles.strike)

    def _each(self, seconds: float, what: Callable[[], None]) -> None:
        self.schedule.after(self.chance.uniform(0, seconds), lambda: self.schedule.every(seconds, what))

    # -- users ---------------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        for name in sorted(self.asked):
            self.chance.choice(self.gateways).ask(name)

    def _change_who_is_asked(self) -> None:
        if self.is_calm:
            return
        asked = {
            name for name in sorted(ON_DEMAND & self.database.rows.deployments.keys()) if self.chance.random() < 0.5
        }
        if asked != self.asked:
            self.say(f"users: {sorted(asked)}")
            self.asked = asked

    # -- rest ----------------------------------------------------------------------------------------------------

    def _calm_down(self) -> None:
        self.say("everything is left alone")
        self.is_calm, self.network.is_bad, self.database.is_away = True, False, False
        for host in self.database.rows.hosts.values():
            host.cordoned = host.draining = False
        for deployment in self.database.rows.deployments.values():
            self.operators.write(self.revisions.let_end(deployment))
        self.troubles.reach_again(sorted(self.network.cut_off))
        if self.troubles.was_restored:
            tables = [gateway.table for gateway in self.gateways if gateway.table is not None]
            self.database.accept(
                [host.highest_term for host in self.hosts] + [table.term for table in tables],
                max((table.version for table in tables), default=0),
                {host.id: host.applied_generation for host in self.hosts},
            )


@contextmanager
def silent_log() -> Iterator[None]:
    """Without what coordinators would log."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)


def tell(seed: int, cast: Sequence[str] = (), **switches: bool) -> Story:
    """Run one story; a broken promise names the seed and says what happened."""

    async def whole_story() -> Story:
        story = Story(seed, cast=cast, **switches)
        try:
            await story.run()
        except BrokenPromiseError as error:
            tail = "\n".join(story.log[-25:])
            raise BrokenPromiseError(f"seed {seed}, at {story.schedule.now:.1f} s: {error}\n{tail}") from None
        except Exception as error:
            error.add_note(f"in the story of seed {seed}, at {story.schedule.now:.1f} s")
            raise
        return story

    with silent_log(), asyncio.Runner(loop_factory=VirtualTime) as runner:
        return runner.run(whole_story())
