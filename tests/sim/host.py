"""An agent: it judges assignments with the real code and remembers what it accepted; its engines take their time."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from studio.v1.agent_service_pb2 import Heartbeat, Hello, ObservationReport, ReplicaObservation
from studio.v1.assignment_pb2 import AssignedReplica, Assignment
from studio.v1.host_pb2 import Gpu, Host
from studio.v1.replica_pb2 import Replica
from studio_agent.plan.assignment import Accept, Refuse, judge_assignment
from studio_agent.plan.record import ReplicaRecord
from studio_coordinator.sessions import Session

from sim.network import Stream

if TYPE_CHECKING:
    from sim.leader import Life, SimulatedCoordinator
    from sim.story import Story

HEARTBEAT_SECONDS = 5.0
# So long a part of a replica over several hosts waits for the others; all of them load sooner.
MEETING_SECONDS = 40.0
STARTING, READY, FAILED = Replica.STATE_STARTING, Replica.STATE_READY, Replica.STATE_FAILED
SLEEPING, WAKING, STOPPING = Replica.STATE_SLEEPING, Replica.STATE_WAKING, Replica.STATE_STOPPING


@dataclass
class Engine:
    assigned: AssignedReplica
    # What it was started with.
    started_as: AssignedReplica
    number: int
    begun_at: float
    state: "Replica.State.ValueType" = STARTING
    # It has given its GPUs back.
    is_asleep: bool = False
    # Of one that spans hosts: its part is loaded, and it waits for the others.
    has_loaded: bool = False

    @property
    def group_size(self) -> int:
        return self.started_as.group.size

    def is_part_with(self, other: "Engine") -> bool:
        """Whether they would meet."""
        mine, its = self.started_as, other.started_as
        return (mine.generation, mine.group.leader_address) == (its.generation, its.group.leader_address)

    def is_for(self, item: AssignedReplica) -> bool:
        return ReplicaRecord(self.assigned, self.state, "", 0.0).is_for(item)


class SimulatedHost:
    def __init__(self, story: "Story", number: int, gpus: int, *, fences_terms: bool) -> None:
        self.story, self.name, self.id = story, f"h{number}", f"id-h{number}"
        self._fences_terms = fences_terms
        devices = [
            Gpu(uuid=f"GPU-{self.name}-{index}", index=index, model="NVIDIA H100 80GB HBM3", memory_bytes=80 * 2**30)
            for index in range(gpus)
        ]
        self.row = Host(id=self.id, name=self.name, state=Host.STATE_CONNECTED, gpus=devices)
        self.row.facts.features.append("groups")
        self.row.facts.engine_address = self.name
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
        self._sent = 0
        # To whom, over what, and what is open there.
        self._session: tuple[SimulatedCoordinator, Stream, Session] | None = None

    # -- the session ---------------------------------------------------------------------------------------------

    def beat(self) -> None:
        """Dial where there is no session, else say that the supervising loop turns."""
        if self.is_down:
            return
        if self._session is not None and self.story.chance.random() > 0.02:
            leader, stream, session = self._session
            if stream.is_open and leader.answers:
                self._sent += 1
                heartbeat = Heartbeat(sequence=self._sent, applied_generation=self.applied_generation)
                self._say(lambda life: life.reception.heartbeat(session, heartbeat))
                return
        self._session = None
        leader = self.story.coordinators[self._dialled % len(self.story.coordinators)]
        if not leader.leads:
            self._dialled += 1
            return
        self.story.network.call(self.name, leader.name, lambda: self._introduce(leader))

    def _introduce(self, leader: "SimulatedCoordinator") -> None:
        """The connection is there: what is said first."""
        if self.is_down:
            return
        hello = Hello(applied_generation=self.applied_generation, highest_term=self.highest_term)
        hello.replicas.extend(self.picture())
        leader.receive(lambda life: life.reception.greet(self, hello))

    def welcome(
        self,
        leader: "SimulatedCoordinator",
        stream: Stream,
        session: Session,
        document: Assignment | None,
        term: int,
    ) -> None:
        if self.is_down:
            stream.close()
            return
        self._session = leader, stream, session
        if document is not None:
            told = Assignment()
            told.CopyFrom(document)
            told.term = term
            self.offer(told)
        self.report()

    def report(self) -> None:
        if self._session is not None and not self.is_down:
            session = self._session[2]
            report = ObservationReport(applied_generation=self.applied_generation, replicas=self.picture())
            self._say(lambda life: life.reception.observation(session, report))

    def _say(self, what: "Callable[[Life], None]") -> None:
        if self._session is not None:
            leader, stream, _ = self._session
            stream.send(leader.name, lambda: leader.receive(what))

    @property
    def applied_generation(self) -> int:
        return self.assignment.generation if self.assignment is not None else 0

    def picture(self) -> list[ReplicaObservation]:
        return [
            ReplicaObservation(
                replica_id=name,
                generation=engine.assigned.generation,
                state=engine.state,
                base_url=f"http://{self.name}:{20000 + engine.number}",
                pid=engine.number,
                rank=engine.assigned.group.rank,
            )
            for name, engine in self.engines.items()
        ]

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
        """Stop what is not wanted, put to sleep what is to sleep, and start or wake what is to run and has its GPUs free."""
        if self.is_down or self.assignment is None:
            return
        wanted = {item.replica_id: item for item in self.assignment.replicas}
        for name, engine in list(self.engines.items()):
            item = wanted.get(name)
            if (item is None or not engine.is_for(item)) and engine.state != STOPPING:
                engine.state, engine.is_asleep = STOPPING, False
                self._break_others(name, engine)
                self._later(name, engine, self._gone)
        for name, item in wanted.items():
            engine = self.engines.get(name)
            if engine is None:
                if self._are_free(item):
                    self._start(name, item)
            elif engine.is_for(item):
                engine.assigned = item
                self._follow_wish(name, engine)

    def _follow_wish(self, name: str, engine: Engine) -> None:
        sleeps = engine.assigned.wish == AssignedReplica.WISH_SLEEP
        if sleeps and engine.state == READY:
            self.story.promises.before_sleep(self, name)
            engine.state = SLEEPING
            self._later(name, engine, self._asleep)
        elif not sleeps and engine.is_asleep and self._are_free(engine.assigned):
            engine.state, engine.is_asleep = WAKING, False
            self._later(name, engine, self._awake)

    def _are_free(self, item: AssignedReplica) -> bool:
        holders = [engine for engine in self.engines.values() if not engine.is_asleep]
        return not {uuid for engine in holders for uuid in engine.assigned.gpu_uuids} & set(item.gpu_uuids)

    def _start(self, name: str, item: AssignedReplica) -> None:
        self._started += 1
        engine = self.engines[name] = Engine(item, item, self._started, self.story.schedule.now)
        self._later(name, engine, self._loaded)

    def _later(
        self, name: str, engine: Engine, what: Callable[[str, Engine], None], seconds: float | None = None
    ) -> None:
        number = engine.number

        def happen() -> None:
            # An engine that was begun anew meanwhile is another one.
            if self.engines.get(name) is engine and engine.number == number:
                what(name, engine)

        self.story.schedule.after(self.story.chance.uniform(1, 20) if seconds is None else seconds, happen)

    def _loaded(self, name: str, engine: Engine) -> None:
        if engine.state != STARTING:
            return
        if not self.story.revisions.starts(engine.assigned.deployment, engine.assigned.recipe_revision):
            engine.state = FAILED
        elif engine.group_size:
            engine.has_loaded = True
            self._join(name, engine)
            self._later(name, engine, self._wait_no_longer, MEETING_SECONDS)
        else:
            engine.state = READY
            self.carry_out()
        self.report()

    def _join(self, name: str, engine: Engine) -> None:
        """The parts of one engine find each other while all of them start, and never after."""
        parts = self.story.parts(name, engine)
        if len(parts) == engine.group_size and all(part.state == STARTING and part.has_loaded for _, part in parts):
            for host, part in parts:
                part.state = READY
                host.report()

    def _wait_no_longer(self, _: str, engine: Engine) -> None:
        if engine.state == STARTING:
            engine.state = FAILED
            self.report()

    def _break_others(self, name: str, engine: Engine) -> None:
        """No part of an engine goes on without the others: they end, and are begun anew; or they hang."""
        if self.story.chance.random() < 0.5:
            for host, part in self.story.parts(name, engine):
                if part is not engine:
                    host.begin_anew(name)

    def _asleep(self, _: str, engine: Engine) -> None:
        if engine.state == SLEEPING:
            engine.is_asleep = True
            self.carry_out()
            self.report()

    def _awake(self, _: str, engine: Engine) -> None:
        if engine.state == WAKING:
            engine.state = READY
            self.carry_out()
            self.report()

    def _gone(self, name: str, engine: Engine) -> None:
        del self.engines[name]
        for host, part in self.story.parts(name, engine)[:1]:
            # One of the same name may have been in its place.
            host._join(name, part)
        self.carry_out()
        self.report()

    def fail_an_engine(self) -> None:
        """One that serves breaks, and its agent begins it anew."""
        ready = [(name, engine) for name, engine in self.engines.items() if engine.state == READY]
        if ready:
            name, engine = self.story.chance.choice(ready)
            self.troubled_at = self.story.schedule.now
            self.begin_anew(name)
            self._break_others(name, engine)

    def begin_anew(self, name: str) -> None:
        engine = self.engines[name]
        if engine.state == READY:
            self._started += 1
            engine.state, engine.number, engine.has_loaded = STARTING, self._started, False
            engine.started_as = engine.assigned
            self._later(name, engine, self._loaded)
            self.report()

    # -- faults --------------------------------------------------------------------------------------------------

    def crash(self) -> None:
        """kill -9 of the agent: engines go on, its unit starts it again."""
        if self.is_down:
            return
        self.is_down, self.troubled_at = True, self.story.schedule.now
        if self._session is not None:
            self._session[1].close()
            self._session = None
        self.story.schedule.after(self.story.chance.uniform(1, 15), self._come_back)

    def _come_back(self) -> None:
        self.is_down = False
        self.carry_out()
