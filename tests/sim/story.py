"""One story: operators change their minds, everything that can fail does, and then it is left alone and must come to rest."""

import random
from collections.abc import Callable

from fakes.world import stamp
from studio.v1.deployment_pb2 import Deployment
from studio.v1.host_pb2 import Host
from studio.v1.recipe_pb2 import Recipe
from studio_coordinator.plan.rollout import phase_name

from sim.gateway import SimulatedGateway
from sim.host import HEARTBEAT_SECONDS, SimulatedHost
from sim.leader import TTL_SECONDS, SimulatedCoordinator
from sim.memory import Database, Rows
from sim.network import Network
from sim.promises import BrokenPromiseError, Promises
from sim.revisions import POLICIES, Revisions
from sim.schedule import START, Schedule

HOSTS = 6
# Enough for a surge.
GPUS = 2
# Half of them: enough for the brake.
MANY = 3
TROUBLE_SECONDS = 130.0
# At most; and after so long without a change nothing waits for a timer any more.
REST_SECONDS = 200.0
QUIET_SECONDS = 60.0


class Story:
    def __init__(self, seed: int, *, checks_epoch: bool = True, fences_terms: bool = True) -> None:
        self.chance = random.Random(seed)
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
        self.is_calm = False
        self._backup: Rows | None = None
        self.was_restored = False
        # What happened, for whoever reads a broken promise.
        self.log: list[str] = []

    def host(self, host_id: str) -> SimulatedHost:
        return next(host for host in self.hosts if host.id == host_id)

    def is_known(self, host: SimulatedHost, replica_id: str) -> bool:
        """Whether the database can know of it: what was placed after the backup that was restored, it does not."""
        row = self.database.rows.replicas.get(replica_id)
        return not self.was_restored or (row is not None and row.host_id == host.id)

    def crash_by_chance(self) -> bool:
        return not self.is_calm and self.chance.random() < 0.015

    def run(self) -> None:
        self._begin()
        self._until(TROUBLE_SECONDS)
        self._calm_down()
        end = TROUBLE_SECONDS + REST_SECONDS
        while self.schedule.now < end and not self._is_at_rest():
            self.schedule.step()
        self.promises.at_rest()

    def _is_at_rest(self) -> bool:
        return self.schedule.now - max(self.database.written_at, TROUBLE_SECONDS) > QUIET_SECONDS

    def _until(self, when: float) -> None:
        while self.schedule.now < when:
            self.schedule.step()

    def _begin(self) -> None:
        rows = self.database.rows
        for host in self.hosts:
            host.row.last_seen.CopyFrom(stamp(START))
            rows.hosts[host.id] = host.row
            self._each(HEARTBEAT_SECONDS, host.beat)
        for name, policy in POLICIES.items():
            rows.recipes[name, 1] = recipe = Recipe(name=name)
            recipe.engine.name = "vllm"
            recipe.resources.gpu.count.value = 1
            rows.deployments[name] = deployment = Deployment(
                name=name, target_revision=1, version=1, created_at=stamp(START)
            )
            deployment.spec.name = deployment.spec.recipe = name
            deployment.spec.replicas.min = self.chance.randint(1, 2)
            deployment.spec.rollout.CopyFrom(policy)
        for coordinator in self.coordinators:
            self._each(TTL_SECONDS / 3, coordinator.keep_lease)
            self._each(10.0, coordinator.keep_last_seen)
            self._each(5.0, coordinator.wake)
        for gateway in self.gateways:
            self._each(2.0, gateway.beat)
        self._each(8.0, self._operate)
        self._each(8.0, self._trouble)

    def _each(self, seconds: float, what: Callable[[], None]) -> None:
        self.schedule.after(self.chance.uniform(0, seconds), lambda: self.schedule.every(seconds, what))

    # -- operators -----------------------------------------------------------------------------------------------

    def _operate(self) -> None:
        if self.is_calm or self.database.is_away:
            return
        name = self.chance.choice(list(POLICIES))
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
            (self._back_up_or_restore, 1),
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
        for party in (*self.hosts, *self.gateways):
            if party.name in names:
                if isinstance(party, SimulatedHost):
                    party.troubled_at = self.schedule.now
                    self.gone_together -= {party.id}
                else:
                    party.alone_since = self.schedule.now

    def _cut_off_a_host(self) -> None:
        host = self.chance.choice(self.hosts)
        if host.name not in self.network.cut_off:
            host.troubled_at = self.schedule.now + 1000
            self._cut_off([host.name], self.chance.uniform(5, 120))

    def _cut_off_many_hosts(self) -> None:
        if any(host.name in self.network.cut_off for host in self.hosts):
            return
        there = [host for host in self.hosts if any(one.hears(host.id) for one in self.coordinators)]
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
            self.was_restored = True
            self.database.restore(self._backup)
            # Nobody restores a database under running coordinators.
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


def tell(seed: int, **switches: bool) -> None:
    """Run one story; a broken promise names the seed and says what happened."""
    story = Story(seed, **switches)
    try:
        story.run()
    except BrokenPromiseError as error:
        tail = "\n".join(story.log[-25:])
        raise BrokenPromiseError(f"seed {seed}, at {story.schedule.now:.1f} s: {error}\n{tail}") from None
