"""One replica: the one writer of its record.

The loop calls ``start``, ``restart`` and ``stop``; each changes the record at once and leaves the rest to a job, of which there
is at most one. A new order cancels the running job first, so no two ever write. Cancelled jobs (also when the agent ends)
leave the engine as it is.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path

import structlog
from studio.v1.assignment_pb2 import AssignedReplica
from studio.v1.event_pb2 import Event
from studio.v1.replica_pb2 import Failure, StartProgress
from studio_runtime import tracing
from studio_runtime.errors import StudioError
from studio_runtime.failpoints import failpoint

from studio_agent import metrics
from studio_agent.engines import driver_for
from studio_agent.engines.base import Driver
from studio_agent.environments.errors import EnvironmentFailedError
from studio_agent.errors import EngineFailedError
from studio_agent.logfiles import lines_since
from studio_agent.plan.lifecycle import LEAVING, TRANSITIONS, advance
from studio_agent.plan.record import Engine, ReplicaRecord, State
from studio_agent.plan.restarts import record_failure, record_restart
from studio_agent.supervise import bring_up, wind_down
from studio_agent.supervise.equipment import Equipment
from studio_agent.supervise.event_log import timestamp
from studio_agent.supervise.readiness import until_ready, with_phase_since

# After a defect of the agent's own, before the replica is taken up again.
DEFECT_PAUSE_SECONDS = 1.0

log = structlog.get_logger()


class ReplicaSupervision:
    """Supervises one replica id, over all its generations."""

    def __init__(self, equipment: Equipment, group: asyncio.TaskGroup, replica_id: str) -> None:
        self._equipment = equipment
        self._group = group
        self._id = replica_id
        # The newest job, and those before it that are not quite gone.
        self._jobs: set[asyncio.Task[None]] = set()

    @property
    def _record(self) -> ReplicaRecord:
        return self._equipment.ledger.records[self._id]

    def start(self, assigned: AssignedReplica, reason: str) -> None:
        """Start with a clean record."""
        now = self._equipment.now()
        self._put(ReplicaRecord(assigned, State.STATE_PREPARING, reason, now))
        self._say("replica.starting", f"{self._id} is starting: {reason}")
        self._run(self._start_and_serve())

    def restart(self, assigned: AssignedReplica, reason: str) -> None:
        """Start again after a failure."""
        now = self._equipment.now()
        record = record_restart(self._record, now)
        self._put(advance(replace(record, assigned=assigned), State.STATE_PREPARING, reason, now))
        metrics.RESTARTS.inc()
        cause = record.failure.reason if record.failure is not None else ""
        self._say(
            "replica.restarting",
            f"{self._id} is started again (restart {record.restart_count}): {reason}",
            reason=cause,
        )
        self._run(self._start_and_serve())

    def stop(self, reason: str) -> None:
        """End the engine; the record is STOPPED once nothing of it is left."""
        self._cancel_job()
        if self._record.state == State.STATE_PENDING:
            self._move(State.STATE_STOPPED, reason)
            return
        drains = self._record.state == State.STATE_READY
        self._move(State.STATE_DRAINING if drains else State.STATE_STOPPING, reason)
        self._run(self._stop(reason))

    def resume(self) -> None:
        """Go on where an earlier agent left a live engine."""
        state = self._record.state
        if self._record.holds_unknown:
            return
        if state in (State.STATE_STARTING, State.STATE_READY):
            self._run(self._serve_adopted())
        elif state in (State.STATE_DRAINING, State.STATE_STOPPING):
            self._run(self._stop(self._record.reason))
        elif state == State.STATE_FAILED:
            self._run(self._clear_leftovers())

    def note_loss(self) -> None:
        """Go on where an earlier agent left an engine that ended since."""
        self._run(self._fail_lost())

    # Jobs

    async def _start_and_serve(self) -> None:
        assigned = self._record.assigned
        try:
            with tracing.span(
                "engine.start",
                assigned.traceparent,
                replica=self._id,
                engine=assigned.recipe.engine.name,
                generation=assigned.generation,
            ):
                driver = await self._launch()
                await self._become_ready(driver)
            await self._until_end(driver)
        except EngineFailedError as error:
            await self._fail(error.failure)
        except StudioError as error:
            await self._fail(_as_failure(error))
        except OSError as error:
            await self._fail(Failure(reason="host", message=f"this host would not have it: {error}", retryable=True))

    async def _serve_adopted(self) -> None:
        try:
            driver = driver_for(self._record.assigned.recipe.engine.name)
            if self._record.state == State.STATE_STARTING:
                await self._become_ready(driver)
            await self._until_end(driver)
        except EngineFailedError as error:
            await self._fail(error.failure)
        except StudioError as error:
            await self._fail(_as_failure(error))

    async def _launch(self) -> Driver:
        equipment = self._equipment
        prepared = await bring_up.prepare(equipment, self._record.assigned, self._report)
        order = bring_up.describe(equipment, self._record, prepared)
        # The intent is on disk before the start: an agent that dies between the two is followed by one that finds the engine.
        self._put(replace(self._record, engine=order.engine))
        await asyncio.to_thread(bring_up.write_note, equipment.settings.state, self._record)
        failpoint("note_written")
        await equipment.ledger.flush()
        failpoint("intent_written")
        await asyncio.to_thread(bring_up.write_files, order)
        self._move(State.STATE_STARTING, "the engine loads")
        engine = await equipment.launcher.start(order.engine, order.argv, order.env)
        failpoint("engine_started")
        self._put(replace(self._record, engine=engine))
        log.info("engine_started", replica=self._id, pid=engine.pid, port=engine.port, argv=list(order.argv))
        return prepared.driver

    async def _become_ready(self, driver: Driver) -> None:
        engine = self._engine()
        ended = asyncio.ensure_future(self._equipment.launcher.exited(engine))
        ready = asyncio.ensure_future(until_ready(self._equipment, self._record, driver, self._report))
        try:
            await asyncio.wait((ended, ready), return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                raise EngineFailedError(await self._diagnose(driver, engine, ended.result()))
            ready.result()
        finally:
            ended.cancel()
            ready.cancel()
            await asyncio.gather(ended, ready, return_exceptions=True)
        seconds = max(0.0, self._equipment.now() - engine.started_at)
        metrics.STARTS.observe(seconds)
        self._move(
            State.STATE_READY,
            f"it answered a completion {seconds:.1f} s after its start",
            port_conflicts=0,
            failure=None,
        )
        failpoint("engine_ready")
        self._say("replica.ready", f"{self._id} is ready after {seconds:.1f} s", pid=str(engine.pid))

    async def _until_end(self, driver: Driver) -> None:
        engine = self._engine()
        code = await self._equipment.launcher.exited(engine)
        raise EngineFailedError(await self._diagnose(driver, engine, code))

    async def _fail_lost(self) -> None:
        try:
            driver = driver_for(self._record.assigned.recipe.engine.name)
            failure = await self._diagnose(driver, self._engine(), None)
        except StudioError as error:
            failure = _as_failure(error)
        await self._fail(failure)

    async def _fail(self, failure: Failure) -> None:
        failure.at.CopyFrom(timestamp(self._equipment.now()))
        failpoint("failure_seen")
        self._put(record_failure(self._record, failure, self._equipment.now(), self._equipment.settings.restarts))
        metrics.FAILURES.labels(failure.reason).inc()
        self._say(
            "replica.failed",
            f"{self._id} failed: {self._record.reason}",
            severity=Event.SEVERITY_ERROR,
            reason=failure.reason,
            cause_line=failure.cause_line,
            hint=failure.hint,
            exit_code=str(failure.exit_code) if failure.HasField("exit_code") else "",
        )
        await self._clear_leftovers()

    async def _clear_leftovers(self) -> None:
        """After a failure: nothing of the old engine may be left when the next one starts."""
        if (engine := self._record.engine) is None:
            return
        if await wind_down.clear(self._equipment, engine, self._report_unkillable):
            log.info("leftovers_killed", replica=self._id, token=engine.token)
        failpoint("leftovers_cleared")
        self._put(replace(self._record, engine=None))
        if self._record.state == State.STATE_STOPPING:
            self._stopped("what would not die is gone")

    async def _stop(self, reason: str) -> None:
        engine = self._record.engine
        if engine is not None:
            if self._record.state == State.STATE_DRAINING:
                how = await wind_down.drain(self._equipment, self._record, engine)
                self._move(State.STATE_STOPPING, f"{reason}; {how}")
            await wind_down.stop(self._equipment, self._record, engine)
            failpoint("engine_stopped")
            await wind_down.clear(self._equipment, engine, self._report_unkillable)
            failpoint("engine_cleared")
            if not await wind_down.port_is_free(self._equipment, engine):
                log.warning("port_still_taken", replica=self._id, port=engine.port)
        self._stopped(reason)

    def _stopped(self, reason: str) -> None:
        self._move(State.STATE_STOPPED, reason, engine=None)
        self._say("replica.stopped", f"{self._id} is stopped: {reason}")

    # The record

    def _engine(self) -> Engine:
        if (engine := self._record.engine) is None:
            raise RuntimeError(f"{self._id} has no engine")
        return engine

    async def _diagnose(self, driver: Driver, engine: Engine, code: int | None) -> Failure:
        lines = await asyncio.to_thread(lines_since, Path(engine.log_path), engine.log_offset)
        return await asyncio.to_thread(driver.classify, lines, code)

    def _report(self, progress: StartProgress) -> None:
        stamped = with_phase_since(progress, self._record.progress, self._equipment.now())
        self._put(replace(self._record, progress=stamped))

    def _report_unkillable(self, pids: list[int]) -> None:
        named = ", ".join(map(str, pids))
        reason = f"unkillable: process {named} survives SIGKILL; its GPUs stay taken until it is gone (a reboot may be needed)"
        if self._record.state != State.STATE_STOPPING:
            self._move(State.STATE_STOPPING, reason)
        else:
            self._put(replace(self._record, reason=reason))
        self._say("replica.unkillable", f"{self._id}: {reason}", severity=Event.SEVERITY_ERROR, reason="unkillable")

    def _move(self, state: "State.ValueType", reason: str, **changes: object) -> None:
        self._put(advance(self._record, state, reason, self._equipment.now(), **changes))

    def _put(self, record: ReplicaRecord) -> None:
        self._equipment.ledger.put(record)

    def _say(
        self,
        kind: str,
        message: str,
        severity: "Event.Severity.ValueType" = Event.SEVERITY_INFO,
        reason: str = "",
        **attributes: str,
    ) -> None:
        self._equipment.events.say(kind, message, self._record, severity=severity, reason=reason, **attributes)

    # The job

    def _cancel_job(self) -> None:
        for job in self._jobs:
            job.cancel()

    def _run(self, job: Coroutine[None, None, None]) -> None:
        self._cancel_job()
        task = self._group.create_task(self._guarded(frozenset(self._jobs), job), name=f"replica {self._id}")
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    async def _guarded(self, before: frozenset[asyncio.Task[None]], job: Coroutine[None, None, None]) -> None:
        """Run ``job`` once those before it have ended; a defect in it is this replica's failure, not the agent's."""
        try:
            if before:
                await asyncio.wait(before)
            await job
        except Exception as error:
            log.exception("supervision_failed", replica=self._id)
            await asyncio.sleep(DEFECT_PAUSE_SECONDS)
            if self._record.state in LEAVING:
                self._run(self._stop(self._record.reason))
            elif State.STATE_FAILED in TRANSITIONS[self._record.state]:
                self._run(
                    self._fail(Failure(reason="agent_defect", message=f"the agent failed: {error!r}", retryable=True))
                )
        finally:
            job.close()


def _as_failure(error: StudioError) -> Failure:
    reason = error.failure_reason if isinstance(error, EnvironmentFailedError) else error.reason
    return Failure(reason=reason, message=error.message, hint=error.hint, retryable=error.retryable)
