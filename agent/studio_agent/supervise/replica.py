"""One replica: the one writer of its record.

The loop calls ``start``, ``restart``, ``sleep``, ``wake`` and ``stop``; each changes the record at once and leaves the rest to a
job, of which there is at most one. A new order cancels the running job first, so no two ever write. Cancelled jobs (also when
the agent ends) leave the engine as it is.
"""

import asyncio
import contextlib
import functools
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog
from studio.v1.assignment_pb2 import AssignedReplica
from studio.v1.replica_pb2 import Failure
from studio_runtime import tracing
from studio_runtime.errors import StudioError
from studio_runtime.failpoints import failpoint
from studio_runtime.logging import redacted

from studio_agent import metrics
from studio_agent.engines import driver_for
from studio_agent.engines.base import CanMeasure, Driver
from studio_agent.environments.errors import EnvironmentFailedError
from studio_agent.errors import EngineFailedError
from studio_agent.logfiles import cut_if_large, lines_since
from studio_agent.plan.health import HUNG, UNRESPONSIVE
from studio_agent.plan.lifecycle import LEAVING, TRANSITIONS, advance
from studio_agent.plan.record import Engine, ReplicaRecord, State
from studio_agent.plan.restarts import record_restart
from studio_agent.supervise import bring_up, sleep, wind_down
from studio_agent.supervise.equipment import Equipment
from studio_agent.supervise.health_watch import HealthWatch
from studio_agent.supervise.intent import write_intent
from studio_agent.supervise.joining import until_joined
from studio_agent.supervise.keeper import RecordKeeper
from studio_agent.supervise.memory_release import until_free
from studio_agent.supervise.race import first_of
from studio_agent.supervise.readiness import tasks_of, until_ready
from studio_agent.supervise.stack_dump import dump_stacks, find_py_spy
from studio_agent.threads import to_the_end

# After a defect of the agent's own, before the replica is taken up again.
DEFECT_PAUSE_SECONDS = 1.0
LOG_LOOK_SECONDS = 5.0
# What an engine gets to write its stacks itself.
ABORT_SECONDS = 2.0

log = structlog.get_logger()


class ReplicaSupervision:
    """Supervises one replica id, over all its generations."""

    def __init__(self, equipment: Equipment, group: asyncio.TaskGroup, replica_id: str) -> None:
        self._equipment = equipment
        self._group = group
        self._id = replica_id
        # For what becomes known of the engine from elsewhere.
        self.keeper = RecordKeeper(equipment, replica_id)
        # The newest job, and those before it that are not quite gone.
        self._jobs: set[asyncio.Task[None]] = set()

    def start(self, assigned: AssignedReplica, reason: str) -> None:
        """Start with a clean record."""
        now = self._equipment.now()
        self.keeper.put(ReplicaRecord(assigned, State.STATE_PREPARING, reason, now))
        self.keeper.say("replica.starting", f"{self._id} is starting: {reason}")
        self._run(self._attempt(self._start_and_serve))

    def restart(self, assigned: AssignedReplica, reason: str) -> None:
        """Start again after a failure."""
        now = self._equipment.now()
        record = record_restart(self.keeper.record, now)
        self.keeper.put(advance(replace(record, assigned=assigned), State.STATE_PREPARING, reason, now))
        metrics.RESTARTS.inc()
        cause = record.failure.reason if record.failure is not None else ""
        self.keeper.say(
            "replica.restarting",
            f"{self._id} is started again (restart {record.restart_count}): {reason}",
            reason=cause,
        )
        self._run(self._attempt(self._start_and_serve))

    def stop(self, reason: str) -> None:
        """End the engine; the record is STOPPED once nothing of it is left."""
        self._cancel_job()
        if self.keeper.record.state == State.STATE_PENDING:
            self.keeper.move(State.STATE_STOPPED, reason)
            return
        drains = self.keeper.record.state == State.STATE_READY
        self.keeper.move(State.STATE_DRAINING if drains else State.STATE_STOPPING, reason)
        self._run(self._stop(reason))

    def sleep(self, reason: str, level: int) -> None:
        """Have a serving engine finish what it does and give its GPU memory back, or one that sleeps sleep deeper."""
        if self.keeper.record.state != State.STATE_SLEEPING:
            self.keeper.move(State.STATE_SLEEPING, f"{reason}; what is in flight finishes first")
        self._run(self._attempt(functools.partial(self._fall_asleep, level)))

    def wake(self, reason: str) -> None:
        """Have a sleeping engine serve again."""
        self.keeper.move(State.STATE_WAKING, reason)
        self._run(self._attempt(self._wake_up))

    def resume(self) -> None:
        """Go on where an earlier agent left a live engine."""
        state = self.keeper.record.state
        if self.keeper.record.holds_unknown:
            return
        if state in (State.STATE_STARTING, State.STATE_READY):
            self._run(self._attempt(self._serve_adopted))
        elif state == State.STATE_SLEEPING:
            record = self.keeper.record
            level = record.sleep_level or record.assigned.sleep_level or 1
            self._run(self._attempt(functools.partial(self._fall_asleep, level)))
        elif state == State.STATE_WAKING:
            self._run(self._attempt(self._wake_up))
        elif state in (State.STATE_DRAINING, State.STATE_STOPPING):
            self._run(self._stop(self.keeper.record.reason))
        elif state == State.STATE_FAILED:
            self._run(self._clear_leftovers())

    def note_loss(self) -> None:
        """Go on where an earlier agent left an engine that ended since."""
        self._run(self._attempt(self._fail_lost))

    # Jobs

    async def _attempt(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        """Do ``work``; whatever it runs into is the replica's failure."""
        try:
            await work()
        except EngineFailedError as error:
            await self._fail(error.failure)
        except StudioError as error:
            await self._fail(_as_failure(error))
        except OSError as error:
            await self._fail(Failure(reason="host", message=f"this host would not have it: {error}", retryable=True))

    async def _start_and_serve(self) -> None:
        assigned = self.keeper.record.assigned
        with tracing.span(
            "engine.start",
            assigned.traceparent,
            replica=self._id,
            engine=assigned.recipe.engine.name,
            generation=assigned.generation,
        ):
            driver = await self._launch()
            await self._become_ready(driver)
        await self._serve(driver)

    async def _serve_adopted(self) -> None:
        driver = self._driver()
        if self.keeper.record.state == State.STATE_STARTING:
            await self._become_ready(driver)
        await self._serve(driver)

    async def _fall_asleep(self, level: int) -> None:
        driver, engine, before = self._driver(), self.keeper.engine(), self.keeper.record
        if not before.asleep or before.sleep_level < level:
            how = "rank 0 has all of them sleep" if before.follows else "no request is running"
            if not (before.follows or before.asleep):
                how = await wind_down.drain(self._equipment, before, engine)
            # Written down first: whether an engine may have been told decides how it is woken.
            self.keeper.put(replace(self.keeper.record, asleep=False, sleep_level=level))
            if not before.follows:
                lighter = before.sleep_level if before.asleep else 0
                await self._while_alive(driver, sleep.put_to_sleep(self._equipment, engine, driver, level, lighter))
            reason = f"{how}; {sleep.told(driver, level)}"
            self.keeper.put(replace(self.keeper.record, asleep=True, reason=reason))
            self.keeper.say("replica.sleeping", f"{self._id} sleeps and has given its GPU memory back")
        await self._while_alive(driver, asyncio.Event().wait())

    async def _wake_up(self) -> None:
        driver, engine, began = self._driver(), self.keeper.engine(), self._equipment.now()
        if self.keeper.record.follows:
            self.keeper.move(State.STATE_READY, "rank 0 wakes all of them")
            await self._serve(driver)
        if level := self.keeper.record.sleep_level:
            await self._while_alive(driver, sleep.wake(self._equipment, engine, driver, level))
        # Its log still tells of its start: that is no progress of its waking.
        await self._while_alive(
            driver, until_ready(self._equipment, self.keeper.record, driver, lambda _progress: None)
        )
        seconds = max(0.0, self._equipment.now() - began)
        self.keeper.move(State.STATE_READY, f"it answered a completion {seconds:.1f} s after it was woken")
        self.keeper.say("replica.ready", f"{self._id} is awake after {seconds:.1f} s", pid=str(engine.pid))
        await self._serve(driver)

    async def _launch(self) -> Driver:
        equipment = self._equipment
        prepared = await bring_up.prepare(equipment, self.keeper.record.assigned, self.keeper.report_progress)
        order = self._order(prepared)
        while await write_intent(equipment, self.keeper):
            # It was held, and its port may be another's by now.
            order = self._order(prepared)
        await asyncio.to_thread(bring_up.write_files, order)
        self.keeper.move(State.STATE_STARTING, "the engine loads")
        engine = await equipment.launcher.start(order.engine, order.argv, order.env)
        failpoint("engine_started")
        self.keeper.put(replace(self.keeper.record, engine=engine))
        log.info("engine_started", replica=self._id, pid=engine.pid, port=engine.port, argv=list(order.argv))
        return prepared.driver

    def _order(self, prepared: bring_up.Prepared) -> bring_up.Order:
        """What is to be started, in the record before it is."""
        order = bring_up.describe(self._equipment, self.keeper.record, prepared)
        self.keeper.put(replace(self.keeper.record, engine=order.engine, measured=None))
        return order

    async def _become_ready(self, driver: Driver) -> None:
        engine = self.keeper.engine()
        record, report = self.keeper.record, self.keeper.report_progress
        await self._while_alive(
            driver,
            until_joined(self._equipment, record, engine, driver, report)
            if record.follows
            else until_ready(self._equipment, record, driver, report),
        )
        seconds = max(0.0, self._equipment.now() - engine.started_at)
        metrics.STARTS.observe(seconds)
        self.keeper.move(
            State.STATE_READY,
            f"it {'joined rank 0' if record.follows else 'answered a completion'} {seconds:.1f} s after its start",
            port_conflicts=0,
            failure=None,
        )
        failpoint("engine_ready")
        self.keeper.say("replica.ready", f"{self._id} is ready after {seconds:.1f} s", pid=str(engine.pid))

    async def _serve(self, driver: Driver) -> None:
        """Watch a serving engine until it fails. Raises EngineFailedError."""
        await self._measure(driver)
        if self.keeper.record.follows:
            # Rank 0 is asked for all of them.
            await self._while_alive(driver, self._bound_log())
        tasks = await asyncio.to_thread(tasks_of, self.keeper.record.assigned.recipe)
        watch = HealthWatch(self._equipment, self.keeper.record, self.keeper.engine(), driver, tasks)
        await self._while_alive(driver, first_of(watch.run(self.keeper.suspect), self._bound_log()))

    async def _measure(self, driver: Driver) -> None:
        """Keep what the log says of the memory that the start took."""
        engine = self.keeper.engine()
        if isinstance(driver, CanMeasure):
            lines = await asyncio.to_thread(lines_since, Path(engine.log_path), engine.log_offset)
            measured = driver.measured(lines)
            known = self.keeper.record.measured
            if known is not None and known.HasField("gpu_peak_bytes"):
                measured.gpu_peak_bytes = known.gpu_peak_bytes
            if measured.ListFields():
                self.keeper.put(replace(self.keeper.record, measured=measured))

    async def _while_alive(self, driver: Driver, work: Coroutine[Any, Any, Any]) -> None:
        """Return when ``work`` is done. Raises EngineFailedError when the engine ends before."""
        engine = self.keeper.engine()
        first, code = await first_of(self._equipment.launcher.exited(engine), work)
        if first == 0:
            raise EngineFailedError(await self._diagnose(driver, engine, code))

    async def _bound_log(self) -> None:
        """Keep the log of a running engine from growing for ever."""
        while True:
            await asyncio.sleep(LOG_LOOK_SECONDS)
            path = self.keeper.engine().log_path
            if await to_the_end(cut_if_large, Path(path)):
                self.keeper.put(replace(self.keeper.record, engine=replace(self.keeper.engine(), log_offset=0)))
                log.info("log_cut", replica=self._id, path=path)

    async def _fail_lost(self) -> None:
        engine = self.keeper.engine()
        code = await self._equipment.launcher.exited(engine)
        raise EngineFailedError(await self._diagnose(self._driver(), engine, code))

    async def _fail(self, failure: Failure) -> None:
        failpoint("failure_seen")
        failure = self.keeper.fail(failure)
        if failure.reason in (HUNG, UNRESPONSIVE):
            await self._keep_stacks(self.keeper.engine())
        await self._clear_leftovers()

    async def _keep_stacks(self, engine: Engine) -> None:
        members = await self._equipment.launcher.members(engine)
        folder = self._equipment.settings.state.replica(self._id)
        dump = await dump_stacks(find_py_spy(), [identity.pid for identity in members], folder, engine.token)
        note = dump.note
        if not dump.read:
            # It is to end anyway, and what still can writes where it stands.
            await self._equipment.launcher.abort(engine)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ABORT_SECONDS):
                    await self._equipment.launcher.exited(engine)
            note = f"{note}; it was told to write its stacks at the end of its log"
        self.keeper.say(
            "replica.stacks_kept" if dump.read else "replica.stacks_missing",
            f"before {self._id} is killed: {note}",
            path=str(dump.path or ""),
        )

    async def _clear_leftovers(self) -> None:
        """After a failure: nothing of the old engine may be left when the next one starts."""
        if (engine := self.keeper.record.engine) is None:
            return
        if await self._clear(engine):
            log.info("leftovers_killed", replica=self._id, token=engine.token)
        failpoint("leftovers_cleared")
        self.keeper.put(replace(self.keeper.record, engine=None))
        if self.keeper.record.state == State.STATE_STOPPING:
            self._stopped("what would not go is gone")

    async def _stop(self, reason: str) -> None:
        engine = self.keeper.record.engine
        if engine is not None:
            if self.keeper.record.state == State.STATE_DRAINING:
                how = await wind_down.drain(self._equipment, self.keeper.record, engine)
                self.keeper.move(State.STATE_STOPPING, f"{reason}; {how}")
            await wind_down.stop(self._equipment, self.keeper.record, engine)
            failpoint("engine_stopped")
            await self._clear(engine)
            failpoint("engine_cleared")
            if not await wind_down.port_is_free(self._equipment, engine):
                log.warning("port_still_taken", replica=self._id, port=engine.port)
        self._stopped(reason)

    async def _clear(self, engine: Engine) -> bool:
        """Return when neither a process nor GPU memory is left of ``engine``; whether a process had to be killed."""
        pids = {engine.pid, *(identity.pid for identity in await self._equipment.launcher.members(engine))}
        found = await wind_down.clear(self._equipment, engine, self.keeper.report_unkillable)
        await until_free(self._equipment, self.keeper.record, engine, pids, self.keeper.report_held)
        self._equipment.readings.forget(engine.token)
        return found

    def _stopped(self, reason: str) -> None:
        self.keeper.move(State.STATE_STOPPED, reason, engine=None)
        self.keeper.say("replica.stopped", f"{self._id} is stopped: {reason}")

    # The record

    def _driver(self) -> Driver:
        return driver_for(self.keeper.record.assigned.recipe.engine.name)

    async def _diagnose(self, driver: Driver, engine: Engine, code: int | None) -> Failure:
        lines = await asyncio.to_thread(lines_since, Path(engine.log_path), engine.log_offset)
        failure = await asyncio.to_thread(driver.classify, lines, code)
        failure.message = redacted(failure.message)
        return failure

    # The job

    def _cancel_job(self) -> None:
        for job in self._jobs:
            job.cancel()

    def _run(self, job: Coroutine[None, None, None]) -> None:
        self._cancel_job()
        task = self._group.create_task(self._guarded(frozenset(self._jobs), job), name=f"replica {self._id}")
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)
        # A task that is cancelled before its first step never comes to its own clean-up.
        task.add_done_callback(lambda _: job.close())

    async def _guarded(self, before: frozenset[asyncio.Task[None]], job: Coroutine[None, None, None]) -> None:
        """Run ``job`` once those before it have ended; a defect in it is this replica's failure, not the agent's."""
        try:
            if before:
                await asyncio.wait(before)
            await job
        except Exception as error:
            log.exception("supervision_failed", replica=self._id)
            await asyncio.sleep(DEFECT_PAUSE_SECONDS)
            if self.keeper.record.state in LEAVING:
                self._run(self._stop(self.keeper.record.reason))
            elif self.keeper.record.state == State.STATE_FAILED:
                # Until its leftovers are cleared away it can never start again.
                self._run(self._clear_leftovers())
            elif State.STATE_FAILED in TRANSITIONS[self.keeper.record.state]:
                self._run(
                    self._fail(Failure(reason="agent_defect", message=f"the agent failed: {error!r}", retryable=True))
                )


def _as_failure(error: StudioError) -> Failure:
    reason = error.failure_reason if isinstance(error, EnvironmentFailedError) else error.reason
    return Failure(reason=reason, message=error.message, hint=error.hint, retryable=error.retryable)
