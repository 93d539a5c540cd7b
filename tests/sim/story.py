"""One story: operators change their minds, everything that can fail does, and then it is left alone and must come to rest."""

import asyncio
import logging
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import structlog
from fakes.world import stamp
from studio.v1.deployment_pb2 import Deployment
from studio.v1.host_pb2 import Host
from studio.v1.replica_pb2 import Replica
from studio_coordinator.plan.group import RESTART_BUDGET
from studio_coordinator.plan.members import parts
from studio_coordinator.plan.rollout import phase_name

from sim.cast import CAST, ON_DEMAND, ROLES, deployment_of, recipe_of
from sim.gateway import SimulatedGateway
from sim.host import HEARTBEAT_SECONDS, Engine, SimulatedHost
from sim.leader import TTL_SECONDS, SimulatedCoordinator
from sim.memory import Database, Rows
from sim.network import Network
from sim.promises import BrokenPromiseError, Promises
from sim.revisions import Revisions
from sim.schedule import START, Schedule, VirtualTime

HOSTS = 6
# Enough for a surge.
GPUS = 3
# Half of them: enough for the brake.
MANY = 3
# Who was cut off has so long to call again.
RETURNING_SECONDS = 20.0
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
        # Hosts that one fault took away together, as long as they are.
        self.gone_together: frozenset[str] = frozenset()
        # Models that somebody uses.
        self.asked: set[str] = set()
        self.is_calm = False
        self._backup: Rows | None = None
        self.was_restored, self._restored_at = False, 0.0
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

    def is_known(self, host: SimulatedHost, replica_id: str) -> bool:
        """Whether the database can know of it: what was placed after the backup that was restored, it does not."""
        engine = host.engines[replica_id]
        if not self.was_restored or engine.begun_at > self._restored_at or self._backup is None:
            return True
        row = self._backup.replicas.get(replica_id, Replica())
        here = any(part.host_id == host.id for part in parts(row))
        return here and row.recipe_revision == engine.assigned.recipe_revision

    def crash_by_chance(self) -> bool:
        return not self.is_calm and self.chance.random() < 0.015

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
        self._each(8.0, self._operate)
        self._each(8.0, self._trouble)

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

    # -- operators -----------------------------------------------------------------------------------------------

    def _operate(self) -> None:
        if self.is_calm:
            self._start_who_gave_up()
            return
        if self.database.is_away:
            return
        name = self.chance.choice(list(self.database.rows.deployments))
        changed = Deployment()
        changed.CopyFrom(self.database.rows.deployments[name])
        draw = self.chance.random()
        if draw < 0.15:
            changed.stopped = not changed.stopped
        elif draw < 0.35:
            changed.spec.replicas.min = self.chance.randint(1, 2)
        elif draw < 0.6:
            changed.target_revision = self.revisions.new(name)
        elif draw < 0.8:
            self.revisions.steer(changed)
        elif draw < 0.9:
            self._drain_or_undrain_a_host()
            return
        else:
            return
        self.say(
            f"operator: {name} stopped={changed.stopped} replicas={changed.spec.replicas.min} "
            f"r{changed.target_revision} {phase_name(changed.rollout.phase)}"
        )
        self._write(changed)

    def _write(self, changed: Deployment) -> None:
        changed.version += 1
        self.database.rows.deployments[changed.name] = changed

    def _start_who_gave_up(self) -> None:
        """`studio start` of replicas over several hosts whose restarts were spent on troubles that are over."""
        for row in self.database.rows.replicas.values():
            deployment = self.database.rows.deployments[row.deployment]
            gave_up = row.state == Replica.STATE_FAILED and row.restarts > RESTART_BUDGET
            if gave_up and row.generation > deployment.tries and not self.revisions.is_hopeless(deployment):
                changed = Deployment()
                changed.CopyFrom(deployment)
                changed.tries = max(deployment.tries + 1, row.generation)
                self.say(f"operator: studio start {deployment.name}")
                self._write(changed)

    def _drain_or_undrain_a_host(self) -> None:
        rows = self.database.rows
        draining = [host for host in rows.hosts.values() if host.draining]
        host = Host()
        host.CopyFrom(draining[0] if draining else self.chance.choice(list(rows.hosts.values())))
        # One at a time; and who vanished with others is left to the brake.
        if not draining and host.id in self.gone_together:
            return
        host.cordoned = host.draining = not draining
        self.say(f"operator: {host.name} draining={host.draining}")
        rows.hosts[host.id] = host

    # -- troubles ------------------------------------------------------------------------------------------------

    def _trouble(self) -> None:
        if self.is_calm:
            return
        kinds = (
            (self._crash_a_coordinator, 2),
            (self._crash_an_agent, 2),
            (self._fail_an_engine, 2),
            (self._cut_off_a_host, 2),
            (self._cut_off_many_hosts, 1),
            (self._cut_off_a_gateway, 1),
            (self._take_the_database_away, 2),
            (self._jump_a_clock, 1),
            (self._back_up_or_restore, 2),
        )
        self.chance.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])[0]()

    def say(self, what: str) -> None:
        self.log.append(f"{self.schedule.now:7.1f} {what}")

    def _crash_a_coordinator(self) -> None:
        coordinator = self.chance.choice(self.coordinators)
        self.say(f"{coordinator.name} crashes")
        coordinator.crash()

    def _crash_an_agent(self) -> None:
        host = self.chance.choice(self.hosts)
        self.say(f"{host.name} crashes")
        host.crash()

    def _fail_an_engine(self) -> None:
        self.chance.choice(self.hosts).fail_an_engine()

    def _cut_off(self, names: list[str], seconds: float) -> None:
        self.say(f"{names} are cut off for {seconds:.0f} s")
        self.network.cut_off |= set(names)
        self.schedule.after(seconds, lambda: self._reach_again(names))

    def _reach_again(self, names: list[str]) -> None:
        self.say(f"{names} are there again")
        self.network.cut_off -= set(names)
        ids = {host.id for host in self.hosts if host.name in names}
        self.schedule.after(RETURNING_SECONDS, lambda: self._count_as_back(ids))
        for party in (*self.hosts, *self.gateways):
            if party.name in names:
                if isinstance(party, SimulatedHost):
                    party.troubled_at = self.schedule.now
                else:
                    party.alone_since = self.schedule.now

    def _count_as_back(self, ids: set[str]) -> None:
        self.gone_together -= ids

    def _cut_off_a_host(self) -> None:
        host = self.chance.choice(self.hosts)
        if host.name not in self.network.cut_off:
            host.troubled_at = self.schedule.now + 1000
            self._cut_off([host.name], self.chance.uniform(5, 120))

    def _cut_off_many_hosts(self) -> None:
        if any(host.name in self.network.cut_off for host in self.hosts):
            return
        # Whom an operator drains is not missed.
        awaited = [host for host in self.hosts if not self.database.rows.hosts[host.id].draining]
        there = [host for host in awaited if any(one.hears(host.id) for one in self.coordinators)]
        if len(there) < MANY:
            return
        many = self.chance.sample(there, MANY)
        for host in many:
            host.troubled_at = self.schedule.now + 1000
        self.gone_together = frozenset(host.id for host in many)
        self._cut_off([host.name for host in many], self.chance.uniform(90, 150))

    def _cut_off_a_gateway(self) -> None:
        gateway = self.chance.choice(self.gateways)
        gateway.alone_since = self.schedule.now + 1000
        self._cut_off([gateway.name], self.chance.uniform(5, 60))

    def _take_the_database_away(self) -> None:
        self.say("the database is away")
        self.database.is_away = True
        self.schedule.after(self.chance.uniform(1, 25), self._bring_the_database_back)

    def _bring_the_database_back(self) -> None:
        self.database.is_away = False

    def _jump_a_clock(self) -> None:
        self.chance.choice(self.coordinators).skew += self.chance.uniform(-10, 10)

    def _back_up_or_restore(self) -> None:
        if self._backup is None:
            self._backup = self.database.backup()
        elif not self.was_restored and self.chance.random() < 0.5:
            self.say("the database is restored from a backup")
            self.was_restored, self._restored_at = True, self.schedule.now
            self.database.restore(self._backup)
            # Nobody restores a database under running coordinators, and it takes longer than messages are under way.
            self.network.era += 1
            for coordinator in self.coordinators:
                coordinator.crash()

    # -- rest ----------------------------------------------------------------------------------------------------

    def _calm_down(self) -> None:
        self.say("everything is left alone")
        self.is_calm, self.network.is_bad, self.database.is_away = True, False, False
        for host in self.database.rows.hosts.values():
            host.cordoned = host.draining = False
        for deployment in self.database.rows.deployments.values():
            self._write(self.revisions.let_end(deployment))
        self._reach_again(sorted(self.network.cut_off))
        if self.was_restored:
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
