"""All that can fail: processes, hosts, connections, the database, clocks; and a database that is restored from a backup."""

from typing import TYPE_CHECKING

from studio.v1.replica_pb2 import Replica
from studio_coordinator.plan.members import parts

from sim.host import SimulatedHost
from sim.memory import Rows

if TYPE_CHECKING:
    from sim.story import Story

# Of six hosts: enough for the brake.
MANY = 3
# Who was cut off has so long to call again.
RETURNING_SECONDS = 20.0


class Troubles:
    def __init__(self, story: "Story") -> None:
        self._story = story
        # Hosts that one fault took away together, as long as they are.
        self.gone_together: frozenset[str] = frozenset()
        self._backup: Rows | None = None
        self.was_restored, self._restored_at = False, 0.0

    def is_known(self, host: SimulatedHost, replica_id: str) -> bool:
        """Whether the database can know of it: what was placed after the backup that was restored, it does not."""
        engine = host.engines[replica_id]
        if not self.was_restored or engine.begun_at > self._restored_at or self._backup is None:
            return True
        row = self._backup.replicas.get(replica_id, Replica())
        here = any(part.host_id == host.id for part in parts(row))
        return here and row.recipe_revision == engine.assigned.recipe_revision

    def strike(self) -> None:
        if self._story.is_calm:
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
        self._story.chance.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])[0]()

    def _crash_a_coordinator(self) -> None:
        coordinator = self._story.chance.choice(self._story.coordinators)
        self._story.say(f"{coordinator.name} crashes")
        coordinator.crash()

    def _crash_an_agent(self) -> None:
        host = self._story.chance.choice(self._story.hosts)
        self._story.say(f"{host.name} crashes")
        host.crash()

    def _fail_an_engine(self) -> None:
        self._story.chance.choice(self._story.hosts).fail_an_engine()

    def _cut_off(self, names: list[str], seconds: float) -> None:
        self._story.say(f"{names} are cut off for {seconds:.0f} s")
        self._story.network.cut_off |= set(names)
        self._story.schedule.after(seconds, lambda: self.reach_again(names))

    def reach_again(self, names: list[str]) -> None:
        self._story.say(f"{names} are there again")
        self._story.network.cut_off -= set(names)
        ids = {host.id for host in self._story.hosts if host.name in names}
        self._story.schedule.after(RETURNING_SECONDS, lambda: self._count_as_back(ids))
        for party in (*self._story.hosts, *self._story.gateways):
            if party.name in names:
                if isinstance(party, SimulatedHost):
                    party.troubled_at = self._story.schedule.now
                else:
                    party.alone_since = self._story.schedule.now

    def _count_as_back(self, ids: set[str]) -> None:
        self.gone_together -= ids

    def _cut_off_a_host(self) -> None:
        host = self._story.chance.choice(self._story.hosts)
        if host.name not in self._story.network.cut_off:
            host.troubled_at = self._story.schedule.now + 1000
            self._cut_off([host.name], self._story.chance.uniform(5, 120))

    def _cut_off_many_hosts(self) -> None:
        if any(host.name in self._story.network.cut_off for host in self._story.hosts):
            return
        # Whom an operator drains is not missed.
        awaited = [host for host in self._story.hosts if not self._story.database.rows.hosts[host.id].draining]
        there = [host for host in awaited if any(one.hears(host.id) for one in self._story.coordinators)]
        if len(there) < MANY:
            return
        many = self._story.chance.sample(there, MANY)
        for host in many:
            host.troubled_at = self._story.schedule.now + 1000
        self.gone_together = frozenset(host.id for host in many)
        self._cut_off([host.name for host in many], self._story.chance.uniform(90, 150))

    def _cut_off_a_gateway(self) -> None:
        gateway = self._story.chance.choice(self._story.gateways)
        gateway.alone_since = self._story.schedule.now + 1000
        self._cut_off([gateway.name], self._story.chance.uniform(5, 60))

    def _take_the_database_away(self) -> None:
        self._story.say("the database is away")
        self._story.database.is_away = True
        self._story.schedule.after(self._story.chance.uniform(1, 25), self._bring_the_database_back)

    def _bring_the_database_back(self) -> None:
        self._story.database.is_away = False

    def _jump_a_clock(self) -> None:
        self._story.chance.choice(self._story.coordinators).skew += self._story.chance.uniform(-10, 10)

    def _back_up_or_restore(self) -> None:
        if self._backup is None:
            self._backup = self._story.database.backup()
        elif not self.was_restored and self._story.chance.random() < 0.5:
            self._story.say("the database is restored from a backup")
            self.was_restored, self._restored_at = True, self._story.schedule.now
            self._story.database.restore(self._backup)
            # Nobody restores a database under running coordinators, and it takes longer than messages are under way.
            self._story.network.era += 1
            for coordinator in self._story.coordinators:
                coordinator.crash()
