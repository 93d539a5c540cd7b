"""An agent: it judges assignments with the real code and remembers what it accepted; its engines take their time."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from studio.v1.agent_service_pb2 import ReplicaObservation
from studio.v1.assignment_pb2 import AssignedReplica, Assignment
from studio.v1.host_pb2 import Gpu, Host
from studio.v1.replica_pb2 import Replica
from studio_agent.plan.assignment import Accept, Refuse, judge_assignment
from studio_agent.plan.record import ReplicaRecord

if TYPE_CHECKING:
    from sim.story import Story

HEARTBEAT_SECONDS = 5.0


@dataclass
class Engine:
    assigned: AssignedReplica
    state: "Replica.State.ValueType"
    number: int


class SimulatedHost:
    def __init__(self, story: "Story", number: int, gpus: int, *, fences_terms: bool) -> None:
        self.story, self.name, self.id = story, f"h{number}", f"id-h{number}"
        self._fences_terms = fences_terms
        devices = [
            Gpu(uuid=f"GPU-{self.name}-{index}", index=index, model="NVIDIA H100 80GB HBM3", memory_bytes=80 * 2**30)
            for index in range(gpus)
        ]
        self.row = Host(id=self.id, name=self.name, state=Host.STATE_CONNECTED, gpus=devices)
        # On disk.
        self.assignment: Assignment | None = None
        self.highest_term = 0
        # (term, generation) of each accepted assignment.
        self.accepted: list[tuple[int, int]] = []
        # Outlive the agent.
        self.engines: dict[str, Engine] = {}
        self.is_down = False
        self.troubled_at = 0.0
        self._dialled = 0
        self._started = 0

    # -- the session ---------------------------------------------------------------------------------------------

    def beat(self) -> None:
        """Dial where there is no session, then say that the supervising loop turns, and what it sees."""
        if self.is_down:
            return
        leader = self.story.coordinators[self._dialled % len(self.story.coordinators)]
        if not leader.is_open_to(self.id) or self.story.chance.random() < 0.02:
            if not leader.leads:
                self._dialled += 1
                return
            self.story.network.send(self.name, leader.name, lambda: leader.hello(self))
            return
        self.report(leader)

    def report(self, leader: object = None) -> None:
        leader = leader or self.story.coordinators[self._dialled % len(self.story.coordinators)]
        applied, picture = self.applied_generation, self.picture()
        sent = self.story.schedule.now
        self.story.network.send(self.name, leader.name, lambda: leader.heard(self.id, sent, applied, picture))

    @property
    def applied_generation(self) -> int:
        return self.assignment.generation if self.assignment is not None else 0

    def picture(self) -> dict[str, ReplicaObservation]:
        return {
            name: ReplicaObservation(
                replica_id=name,
                generation=engine.assigned.generation,
                state=engine.state,
                base_url=f"http://{self.name}:{20000 + engine.number}",
                pid=engine.number,
            )
            for name, engine in self.engines.items()
        }

    def offer(self, document: Assignment) -> None:
        """A document arrives, from whoever, whenever."""
        if self.is_down:
            return
        records = {name: ReplicaRecord(engine.assigned, engine.state, "", 0.0) for name, engine in self.engines.items()}
        highest = self.highest_term if self._fences_terms else 0
        verdict = judge_assignment(self.assignment, highest, document, records)
        if isinstance(verdict, Refuse):
            return
        self.highest_term = max(self.highest_term, document.term)
        if not isinstance(verdict, Accept):
            return
        self.story.promises.before_accept(self, document)
        self.assignment = document
        self.accepted.append((document.term, document.generation))
        # Written down first: from here a crash changes nothing.
        if self.story.crash_by_chance():
            self.crash()
            return
        self.carry_out()
        self.report()

    # -- engines -------------------------------------------------------------------------------------------------

    def carry_out(self) -> None:
        """Stop what is not wanted, start what is and has its GPUs free."""
        if self.is_down or self.assignment is None:
            return
        wanted = {item.replica_id: item for item in self.assignment.replicas}
        for name, engine in list(self.engines.items()):
            item = wanted.get(name)
            stale = item is None or not ReplicaRecord(engine.assigned, engine.state, "", 0.0).is_for(item)
            if stale and engine.state != Replica.STATE_STOPPING:
                engine.state = Replica.STATE_STOPPING
                self._later(name, engine, self._gone)
        held = {uuid for engine in self.engines.values() for uuid in engine.assigned.gpu_uuids}
        for name, item in wanted.items():
            if name not in self.engines and not held & set(item.gpu_uuids):
                self._started += 1
                engine = self.engines[name] = Engine(item, Replica.STATE_STARTING, self._started)
                held |= set(item.gpu_uuids)
                self._later(name, engine, self._ready)

    def _later(self, name: str, engine: Engine, what: Callable[[str, Engine], None]) -> None:
        self.story.schedule.after(self.story.chance.uniform(1, 20), lambda: what(name, engine))

    def _ready(self, name: str, engine: Engine) -> None:
        if self.engines.get(name) is engine and engine.state == Replica.STATE_STARTING:
            starts = self.story.revisions.starts(engine.assigned.deployment, engine.assigned.recipe_revision)
            engine.state = Replica.STATE_READY if starts else Replica.STATE_FAILED
            self.report()

    def _gone(self, name: str, engine: Engine) -> None:
        if self.engines.get(name) is engine:
            del self.engines[name]
            self.carry_out()
            self.report()

    def fail_an_engine(self) -> None:
        ready = [(name, engine) for name, engine in self.engines.items() if engine.state == Replica.STATE_READY]
        if ready:
            name, engine = self.story.chance.choice(ready)
            self.troubled_at = self.story.schedule.now
            self._started += 1
            engine.state, engine.number = Replica.STATE_STARTING, self._started
            self._later(name, engine, self._ready)
            self.report()

    # -- faults --------------------------------------------------------------------------------------------------

    def crash(self) -> None:
        """kill -9 of the agent: engines go on, its unit starts it again."""
        self.is_down, self.troubled_at = True, self.story.schedule.now
        for coordinator in self.story.coordinators:
            coordinator.hang_up(self.id)
        self.story.schedule.after(self.story.chance.uniform(1, 15), self._come_back)

    def _come_back(self) -> None:
        self.is_down = False
        self.carry_out()
