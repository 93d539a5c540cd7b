"""The record of one replica: how it changes, and what is said about that. Only the replica's own supervision has one."""

from dataclasses import replace

from studio.v1.event_pb2 import Event
from studio.v1.replica_pb2 import Failure, MeasuredMemory, StartProgress

from studio_agent import metrics
from studio_agent.plan.gpu_memory import Remains, sentence
from studio_agent.plan.lifecycle import advance
from studio_agent.plan.record import Engine, ReplicaRecord, State
from studio_agent.plan.restarts import record_failure
from studio_agent.supervise.equipment import Equipment
from studio_agent.supervise.event_log import timestamp
from studio_agent.supervise.readiness import with_phase_since

# A higher use that is less than so much higher is not worth telling.
PEAK_STEP_BYTES = 16 * 1024 * 1024


class RecordKeeper:
    """Reads and changes the record of one replica id."""

    def __init__(self, equipment: Equipment, replica_id: str) -> None:
        self._equipment = equipment
        self._id = replica_id

    @property
    def record(self) -> ReplicaRecord:
        """What is known of the replica now."""
        return self._equipment.ledger.records[self._id]

    def engine(self) -> Engine:
        """The engine that the record has."""
        if (engine := self.record.engine) is None:
            raise RuntimeError(f"{self._id} has no engine")
        return engine

    def report_progress(self, progress: StartProgress) -> None:
        """The engine came a step further."""
        stamped = with_phase_since(progress, self.record.progress, self._equipment.now())
        self.put(replace(self.record, progress=stamped))

    def note_adapter(self, token: str, name: str, directory: str | None) -> None:
        """The engine with ``token`` has the LoRA adapter ``name``, from ``directory``; None: it has it no longer."""
        engine = self.record.engine
        if engine is None or engine.token != token:
            return
        adapters = {each: where for each, where in engine.adapters.items() if each != name}
        if directory is not None:
            adapters[name] = directory
        self.put(replace(self.record, engine=replace(engine, adapters=adapters)))

    def note_gpu_use(self, used_bytes: int) -> None:
        """The engine uses so much of a GPU now: the most that it ever used is kept."""
        record, measured = self.record, MeasuredMemory()
        if record.measured is not None:
            measured.CopyFrom(record.measured)
        if record.engine is not None and used_bytes >= measured.gpu_peak_bytes + PEAK_STEP_BYTES:
            measured.gpu_peak_bytes = used_bytes
            self.put(replace(record, measured=measured))

    def suspect(self, reason: str) -> None:
        """The engine may be hung, for ``reason``; "": nothing speaks for that any more."""
        self.put(replace(self.record, suspicion=f"suspect: {reason}" if reason else ""))

    def fail(self, failure: Failure) -> Failure:
        """The replica failed; returns the failure as it is recorded, with an XID that explains it where there is one."""
        now, policy = self._equipment.now(), self._equipment.settings.restarts
        failure.at.CopyFrom(timestamp(now))
        failure = self._equipment.blame.explain(failure, self.record.assigned.gpu_uuids) or failure
        self.put(record_failure(self.record, failure, now, policy))
        metrics.FAILURES.labels(failure.reason).inc()
        self.say(
            "replica.failed",
            f"{self._id} failed: {self.record.reason}",
            severity=Event.SEVERITY_ERROR,
            reason=failure.reason,
            cause_line=failure.cause_line,
            hint=failure.hint,
            exit_code=str(failure.exit_code) if failure.HasField("exit_code") else "",
        )
        self._blame_gpus(failure)
        return failure

    def reconsider(self) -> None:
        """An XID was reported: it may explain why the replica failed a moment ago."""
        record = self._equipment.ledger.records.get(self._id)
        if record is None or record.failure is None or record.state != State.STATE_FAILED:
            return
        explained = self._equipment.blame.explain(record.failure, record.assigned.gpu_uuids)
        if explained is None:
            return
        self.put(replace(record, failure=explained, reason=f"{record.reason}; {explained.hint}"))
        self.say(
            "replica.failure_explained",
            f"{self._id} failed because of its GPU: {explained.message}",
            severity=Event.SEVERITY_ERROR,
            reason=explained.reason,
            hint=explained.hint,
        )
        self._blame_gpus(explained)

    def report_unkillable(self, pids: list[int]) -> None:
        """What is left of the engine does not die."""
        named = ", ".join(map(str, pids))
        reason = f"unkillable: process {named} survives SIGKILL; its GPUs stay taken until it is gone (a reboot may be needed)"
        self._stick("replica.unkillable", "unkillable", reason)
        for uuid in self.record.assigned.gpu_uuids:
            self._equipment.gpus.quarantine(
                uuid, f"Process {named} of {self._id} survives SIGKILL: it may hang in the GPU."
            )

    def report_held(self, remains: list[Remains]) -> None:
        """Its processes are gone and its GPU memory is not free."""
        reason = f"stuck: its processes are gone, but {sentence(remains)}"
        self._stick("replica.memory_held", "memory_held", reason)
        for each in remains:
            self._equipment.gpus.quarantine(each.uuid, f"Memory held by nobody: what {self._id} used was not freed.")

    def move(self, state: "State.ValueType", reason: str, **changes: object) -> None:
        """Into the next state. Raises ForbiddenTransitionError."""
        self.put(advance(self.record, state, reason, self._equipment.now(), **changes))

    def put(self, record: ReplicaRecord) -> None:
        """Replace the record."""
        self._equipment.ledger.put(record)

    def say(
        self,
        kind: str,
        message: str,
        severity: "Event.Severity.ValueType" = Event.SEVERITY_INFO,
        reason: str = "",
        **attributes: str,
    ) -> None:
        """Record an event of this replica; see ``EventLog.say``."""
        self._equipment.events.say(kind, message, self.record, severity=severity, reason=reason, **attributes)

    def _stick(self, kind: str, word: str, reason: str) -> None:
        """Stay in STOPPING, with the GPUs taken, until what is left is gone."""
        if self.record.state != State.STATE_STOPPING:
            self.move(State.STATE_STOPPING, reason)
        else:
            self.put(replace(self.record, reason=reason))
        self.say(kind, f"{self._id}: {reason}", severity=Event.SEVERITY_ERROR, reason=word)

    def _blame_gpus(self, failure: Failure) -> None:
        uuids = self.record.assigned.gpu_uuids
        for uuid, replicas in self._equipment.blame.strike(failure, self._id, uuids).items():
            self._equipment.gpus.quarantine(
                uuid, f"Different replicas failed on it for GPU causes: {', '.join(replicas)}."
            )
