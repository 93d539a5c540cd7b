"""``Supervisor``: the loop that makes this host match its assignment.

Each pass takes the records as they are, asks ``plan`` what to do, and carries it out; passes are woken by changes (an accepted
assignment, a replica's step, an engine's end) and by the clock, and a wake-up carries no data. What takes time runs in the
replicas' own jobs, so a pass is short; its beat is what the heartbeat to the coordinator is made from.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import structlog
from studio.v1.agent_service_pb2 import ReplicaObservation
from studio.v1.assignment_pb2 import Assignment
from studio.v1.event_pb2 import Event
from studio.v1.host_pb2 import GpuFigures
from studio_runtime.watchdog import Watchdog

from studio_agent import metrics
from studio_agent.latest import Latest
from studio_agent.plan.assignment import Accept, Refuse, Verdict, judge_assignment
from studio_agent.plan.gpu_memory import use_by_replica
from studio_agent.plan.reconcile import (
    Action,
    Circumstances,
    Forget,
    Restart,
    Sleep,
    Start,
    Stop,
    Wait,
    Wake,
    next_due,
    plan,
)
from studio_agent.plan.record import ReplicaRecord, State
from studio_agent.supervise.adoption import adopt
from studio_agent.supervise.equipment import Equipment
from studio_agent.supervise.intent import WRITE_AGAIN_SECONDS
from studio_agent.supervise.observation import observe
from studio_agent.supervise.replica import ReplicaSupervision
from studio_agent.supervise.sleep import unmet_wishes

TICK_SECONDS = 1.0

log = structlog.get_logger()


@dataclass(frozen=True)
class Pulse:
    """A pass of the loop: proof that it runs."""

    passes: int = 0
    # How late the clock's last wake-up was.
    lag_seconds: float = 0.0


class Supervisor:
    """Supervises every replica of this host; ``run`` is its whole life."""

    def __init__(self, equipment: Equipment, *, winding_down: bool = False) -> None:
        """``winding_down``: everything is stopped, whatever is assigned, and ``run`` returns when nothing is left."""
        self._equipment = equipment
        self._ledger = equipment.ledger
        self._changes = equipment.changes
        self._winding_down = winding_down
        self._supervised: dict[str, ReplicaSupervision] = {}
        self._ready = asyncio.Event()
        self._tick_seconds = TICK_SECONDS
        self._watchdog = Watchdog()
        self.pulse = Latest(Pulse())

    async def run(self) -> None:
        """Adopt what runs, then make the host match its assignment until cancelled. Engines stay as they are."""
        if self._ledger.quarantined:
            self._tell_quarantine()
        adopted = await adopt(self._equipment)
        try:
            async with asyncio.TaskGroup() as group:
                for replica_id in adopted.resumed:
                    self._supervision(group, replica_id).resume()
                for replica_id in adopted.lost:
                    self._supervision(group, replica_id).note_loss()
                self._ready.set()
                keeper = group.create_task(self._keep_on_disk(), name="ledger and events to disk")
                await self._loop(group)
                keeper.cancel()
        finally:
            with contextlib.suppress(OSError):
                await self._to_disk()

    async def adopted(self) -> None:
        """Return once what ran before is known: before that, there is nothing to report."""
        await self._ready.wait()

    def beat_every(self, seconds: float) -> None:
        """Pass at least this often, and at least once a second."""
        self._tick_seconds = min(TICK_SECONDS, seconds)
        self._changes.set(None)

    def snapshot(self) -> list[ReplicaObservation]:
        """The whole of what this host runs."""
        address = self._equipment.settings.engine_address
        return [observe(record, address) for record in self._ledger.records.values()]

    @property
    def records(self) -> dict[str, ReplicaRecord]:
        """What is known of each replica."""
        return self._ledger.records

    async def offer(self, incoming: Assignment) -> Verdict:
        """Judge an assignment; an accepted one is on disk, and its being carried out has begun, when this returns.

        Raises OSError when it cannot be persisted; it is then not in force.
        """
        before = self._ledger.assignment
        verdict = judge_assignment(before, self._ledger.highest_term, incoming, self._ledger.records)
        if isinstance(verdict, Refuse):
            self._equipment.events.say(
                "assignment.refused",
                f"generation {incoming.generation} was refused: {verdict.reason}",
                severity=Event.SEVERITY_ERROR if verdict.braked else Event.SEVERITY_WARNING,
                reason="braked" if verdict.braked else "refused",
            )
        if isinstance(verdict, Accept):
            await self._ledger.accept(incoming)
            log.info(
                "assignment_accepted",
                generation=incoming.generation,
                term=incoming.term,
                replicas=len(incoming.replicas),
            )
        else:
            self._ledger.see_term(incoming.term)
        self._changes.set(None)
        return verdict

    def note_adapter(self, replica_id: str, token: str, name: str, directory: str | None) -> None:
        """The engine with ``token`` was given a LoRA adapter, or (None) had it taken away."""
        if (supervision := self._supervised.get(replica_id)) is not None:
            supervision.keeper.note_adapter(token, name, directory)

    def note_gpu_use(self, figures: Mapping[str, GpuFigures]) -> None:
        """Take in figures of the GPUs, by UUID: the most that each engine uses is part of what is measured of it."""
        for replica_id, used_bytes in use_by_replica(figures).items():
            if replica_id in self._ledger.records and (supervision := self._supervised.get(replica_id)) is not None:
                supervision.keeper.note_gpu_use(used_bytes)

    def hear(self, event: Event) -> None:
        """Take in an event of the GPU sampler: it may explain why a replica failed."""
        if self._equipment.blame.hear(event):
            for supervision in list(self._supervised.values()):
                supervision.keeper.reconsider()

    def _circumstances(self, desired: Assignment | None) -> Circumstances:
        sleepless = frozenset(() if desired is None else unmet_wishes(desired))
        barred = self._equipment.gpus.quarantined()
        if self._winding_down:
            return Circumstances(barred, sleepless, "every engine of this host is to stop")
        return Circumstances(barred, sleepless)

    async def _loop(self, group: asyncio.TaskGroup) -> None:
        loop, lag, passes = asyncio.get_running_loop(), 0.0, 0
        while True:
            version = self._changes.version
            now = self._equipment.now()
            desired = Assignment() if self._winding_down else self._ledger.assignment
            for action in plan(desired, self._ledger.records, now, self._circumstances(desired)):
                self._apply(group, action)
            passes += 1
            self.pulse.set(Pulse(passes, lag))
            self._watchdog.beat(loop.time())
            self._measure(lag)
            if self._winding_down and self._is_wound_down():
                return
            due = next_due(self._ledger.records, now)
            pause = self._tick_seconds if due is None else min(self._tick_seconds, max(0.0, due - now))
            deadline = loop.time() + pause
            try:
                async with asyncio.timeout_at(deadline):
                    await self._changes.newer_than(version)
                lag = 0.0
            except TimeoutError:
                lag = max(0.0, loop.time() - deadline)

    def _is_wound_down(self) -> bool:
        return all(record.state == State.STATE_STOPPED for record in self._ledger.records.values())

    def _apply(self, group: asyncio.TaskGroup, action: Action) -> None:
        match action:
            case Wait(assigned, reason):
                record = ReplicaRecord(assigned, State.STATE_PENDING, reason, self._equipment.now())
                self._ledger.put(record)
            case Start(assigned, reason):
                self._supervision(group, assigned.replica_id).start(assigned, reason)
            case Restart(assigned, reason):
                self._supervision(group, assigned.replica_id).restart(assigned, reason)
            case Sleep(replica_id, reason, level):
                self._supervision(group, replica_id).sleep(reason, level)
            case Wake(replica_id, reason):
                self._supervision(group, replica_id).wake(reason)
            case Stop(replica_id, reason):
                self._supervision(group, replica_id).stop(reason)
            case Forget(replica_id, _):
                self._ledger.forget(replica_id)
                self._supervised.pop(replica_id, None)

    def _supervision(self, group: asyncio.TaskGroup, replica_id: str) -> ReplicaSupervision:
        if replica_id not in self._supervised:
            self._supervised[replica_id] = ReplicaSupervision(self._equipment, group, replica_id)
        return self._supervised[replica_id]

    async def _keep_on_disk(self) -> None:
        """Bring the ledger and the events to disk after every change; a disk that will not have them is tried again."""
        version = -1
        while True:
            version = await self._changes.newer_than(version)
            try:
                await self._to_disk()
                metrics.LEDGER_WRITE_FAILED.set(0)
            except OSError as error:
                metrics.LEDGER_WRITE_FAILED.set(1)
                log.warning("state_not_written", error=str(error))
                await asyncio.sleep(WRITE_AGAIN_SECONDS)
                version = -1

    async def _to_disk(self) -> None:
        """Bring the ledger and the events to disk. Raises OSError."""
        try:
            await self._ledger.flush()
        finally:
            # Also, and above all, when the ledger cannot be written: the events tell of it.
            await self._equipment.events.queue.flush()

    def _measure(self, lag: float) -> None:
        metrics.LOOP_LAG.set(lag)
        metrics.EVENTS_DROPPED.set(self._equipment.events.queue.dropped)
        counted = Counter(record.state for record in self._ledger.records.values())
        for state in State.values():
            metrics.REPLICAS.labels(State.Name(state).removeprefix("STATE_")).set(counted.get(state, 0))

    def _tell_quarantine(self) -> None:
        self._equipment.events.say(
            "agent.ledger_damaged",
            f"the ledger was damaged and is kept as {self._ledger.quarantined}; engines are found again by their marks, "
            "and nothing is started or stopped before the coordinator has answered",
            severity=Event.SEVERITY_ERROR,
            reason="ledger_damaged",
        )
