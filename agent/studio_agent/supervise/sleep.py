"""Putting an engine to sleep, so that it gives its GPU memory back and keeps its process, and waking it."""

from collections.abc import Sequence

from studio.v1.assignment_pb2 import AssignedReplica, Assignment
from studio.v1.replica_pb2 import Failure
from studio_runtime.errors import StudioError

from studio_agent.engines import driver_for
from studio_agent.engines.base import CanSleep, Driver, HttpRequest
from studio_agent.errors import EngineFailedError
from studio_agent.plan.record import Engine
from studio_agent.supervise.equipment import Equipment
from studio_agent.supervise.observation import base_url

DEEP = 2
NO_POWER = "this engine cannot sleep"
NOT_ASKED = "its recipe does not set args.sleep_mode, without which this engine cannot sleep"


def unmet_wishes(assignment: Assignment) -> dict[str, str]:
    """Replicas that are to sleep and cannot, with the reason; they run instead."""
    asleep = [replica for replica in assignment.replicas if replica.wish == AssignedReplica.WISH_SLEEP]
    reasons = {replica.replica_id: _why_not(replica) for replica in asleep}
    return {replica_id: reason for replica_id, reason in reasons.items() if reason}


async def put_to_sleep(equipment: Equipment, engine: Engine, driver: Driver, level: int, lighter: int = 0) -> None:
    """Make an idle engine sleep, or one that sleeps at level ``lighter`` sleep deeper. Raises EngineFailedError.

    Level 1 keeps its weights in the host's memory; 2 does not, where the engine has a use for that.
    """
    if lighter:
        # An engine that sleeps takes no other order than to wake.
        await wake(equipment, engine, driver, lighter)
    requests = _sleeper(driver).sleep(keep_weights=_keeps_weights(driver, level))
    await _send(equipment, engine, requests, "sleep_failed", "fall asleep")


async def wake(equipment: Equipment, engine: Engine, driver: Driver, level: int) -> None:
    """Have an engine that sleeps at ``level`` take its GPU memory again. Raises EngineFailedError."""
    # Engines that drop their weights remember where they read them.
    requests = _sleeper(driver).wake("", kept_weights=_keeps_weights(driver, level))
    await _send(equipment, engine, requests, "wake_failed", "wake up")


def told(driver: Driver, level: int) -> str:
    """What is said of an engine that sleeps so."""
    if _keeps_weights(driver, level):
        return "it sleeps, its weights wait in the host's memory"
    return "it sleeps deeply, its weights are read anew when it wakes"


def _keeps_weights(driver: Driver, level: int) -> bool:
    return level < DEEP or _sleeper(driver).sleep_levels < DEEP


def _why_not(replica: AssignedReplica) -> str:
    try:
        driver = driver_for(replica.recipe.engine.name)
    except StudioError as error:
        return error.message
    if not isinstance(driver, CanSleep):
        return f"{NO_POWER}: {driver.name}"
    return "" if replica.recipe.args.sleep_mode else NOT_ASKED


def _sleeper(driver: Driver) -> CanSleep:
    if not isinstance(driver, CanSleep):
        raise EngineFailedError(Failure(reason="sleep_failed", message=f"{NO_POWER}: {driver.name}"))
    return driver


async def _send(equipment: Equipment, engine: Engine, requests: Sequence[HttpRequest], reason: str, what: str) -> None:
    url = base_url(equipment.settings.engine_address, engine.port)
    for request in requests:
        problem = await equipment.prober.request_problem(
            request.method, url + request.path, request.body, equipment.settings.sleep_seconds
        )
        if problem:
            hint = "It is started anew. If this returns, see its log: waking needs the memory that it gave back."
            message = f"the engine would not {what}: {request.method} {request.path}: {problem}"
            raise EngineFailedError(Failure(reason=reason, message=message, hint=hint, retryable=True))
