"""Looking at a running engine until it is found hung; what the samples mean is decided in ``plan.health``."""

import asyncio
from collections.abc import Callable, Sequence
from typing import NoReturn

import structlog
from studio.v1.replica_pb2 import Failure, ReplicaFigures

from studio_agent.engines.base import Driver
from studio_agent.engines.model_facts import Task
from studio_agent.errors import EngineFailedError
from studio_agent.plan.health import (
    CanaryResult,
    HealthHistory,
    Hung,
    Look,
    Suspect,
    after_canary,
    after_canary_sent,
    after_look,
    judge_health,
    wants_canary,
)
from studio_agent.plan.record import Engine, ReplicaRecord
from studio_agent.supervise.equipment import Equipment
from studio_agent.supervise.observation import base_url

log = structlog.get_logger()


class HealthWatch:
    """Watches one engine that is READY. ``tasks``: what it may be good for; a canary that one of them answers is answered."""

    def __init__(
        self, equipment: Equipment, record: ReplicaRecord, engine: Engine, driver: Driver, tasks: Sequence[Task]
    ) -> None:
        self._prober = equipment.prober
        self._readings = equipment.readings
        self._limits = equipment.settings.health
        self._engine = engine
        self._driver = driver
        self._url = base_url(equipment.settings.engine_address, engine.port)
        name = next(iter(record.assigned.model_names), record.replica_id)
        self._canaries = [driver.canary(name, task) for task in tasks]
        self._loop = asyncio.get_running_loop()
        self._answers = True
        self._health_due = 0.0

    async def run(self, suspect: Callable[[str], None]) -> NoReturn:
        """Tell ``suspect`` why the engine is under suspicion, or "" when no longer. Raises EngineFailedError when it is hung."""
        history, suspicion = HealthHistory(self._loop.time()), ""
        canary: asyncio.Task[CanaryResult] | None = None
        try:
            while True:
                due = self._loop.time() + self._limits.look_seconds
                look = await self._look()
                result = canary.result() if canary is not None and canary.done() else None
                # What a canary itself moved is no proof that others are served, so its answer comes before the look.
                if result is not None and not result.problem:
                    history = after_canary(history, result)
                history = after_look(history, look)
                if result is not None and result.problem:
                    history = after_canary(history, result)
                canary = None if result is not None else canary
                now = self._loop.time()
                if canary is None and wants_canary(history, now, self._limits):
                    history = after_canary_sent(history, now)
                    canary = asyncio.ensure_future(self._ask(now))
                verdict = judge_health(history, now, self._limits)
                if isinstance(verdict, Hung):
                    raise EngineFailedError(_as_failure(verdict))
                reason = verdict.reason if isinstance(verdict, Suspect) else ""
                if bool(reason) != bool(suspicion):
                    suspicion = reason
                    log.info("engine_health", token=self._engine.token, suspicion=reason)
                    suspect(reason)
                await asyncio.sleep(max(0.0, due - self._loop.time()))
        finally:
            if canary is not None:
                canary.cancel()
                await asyncio.gather(canary, return_exceptions=True)

    async def _look(self) -> Look:
        if not self._answers or self._loop.time() >= self._health_due:
            figures, self._answers = await asyncio.gather(self._read(), self._is_up())
            self._health_due = self._loop.time() + self._limits.health_seconds
        elif (figures := await self._read()) is None:
            self._answers = await self._is_up()
        if figures is None or figures.stale:
            return Look(self._loop.time(), self._answers)
        requests = figures.running + figures.waiting if figures.HasField("running") else None
        return Look(self._loop.time(), self._answers, requests, progress_of(figures))

    async def _read(self) -> ReplicaFigures | None:
        limit = self._limits.answer_seconds
        return await self._readings.read(self._prober, self._url, self._engine, self._driver, limit)

    async def _is_up(self) -> bool:
        return await self._prober.is_up(self._url + self._driver.ready_path, self._limits.answer_seconds)

    async def _ask(self, sent_at: float) -> CanaryResult:
        problem = "it was not asked"
        try:
            async with asyncio.timeout(self._limits.canary_seconds):
                for canary in self._canaries:
                    problem = await self._prober.completion_problem(self._url + canary.path, canary.body or {})
                    if not problem:
                        break
        except TimeoutError:
            problem = f"there was no answer within {self._limits.canary_seconds:.0f} s"
        return CanaryResult(sent_at, self._loop.time(), problem)


def progress_of(figures: ReplicaFigures) -> tuple[float, ...] | None:
    """What changes when the engine works; None for one that does not count its tokens.

    The counter of prompt tokens may move only at the end of a prefill, but each of its chunks takes room in the KV cache.
    """
    if not (figures.HasField("prompt_tokens_total") or figures.HasField("generation_tokens_total")):
        return None
    return (figures.prompt_tokens_total, figures.generation_tokens_total, figures.kv_used_share)


def _as_failure(verdict: Hung) -> Failure:
    return Failure(
        reason=verdict.failure,
        message=f"the engine was killed because {verdict.reason}",
        hint="The stacks of its processes, where they could be had, are kept beside its log; `studio logs` has the log.",
        retryable=True,
    )
