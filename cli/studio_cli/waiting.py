"""Following a deployment until it has settled: asked a few times a second, through short absences of the coordinator."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from studio.v1.admin_service_pb2 import ListDeploymentsRequest, ListReplicasRequest
from studio.v1.deployment_pb2 import Deployment
from studio.v1.replica_pb2 import Replica
from studio_runtime.errors import NotFoundError, StudioError, UnavailableError

from studio_cli import wording
from studio_cli.coordinator import Coordinator
from studio_cli.report import Report
from studio_cli.views.starting import Standing, Verdict, describe_ready, judge

POLL_SECONDS = 0.25

# Called with how far each replica is whenever that was asked.
Show = Callable[[tuple[str, ...]], None]
# Whether what the coordinator says is so: it may tell of the time before its agent came back.
Believe = Callable[[Standing], Awaitable[bool]]


async def believe_all(_standing: Standing) -> bool:
    """What the coordinator says is so."""
    return True


class NotServingError(StudioError):
    """A deployment does not come up."""

    reason = "not_serving"


class NotSettledError(StudioError):
    """It took longer than the caller wanted to wait; it goes on without the caller."""

    reason = "not_settled"


async def look(coordinator: Coordinator, name: str) -> tuple[Deployment, list[Replica]]:
    """The deployment ``name`` and its replicas. Raises NotFoundError."""
    found = await coordinator.call(
        coordinator.admin.ListDeployments, ListDeploymentsRequest(name=name), f"look at deployment {name}"
    )
    if not found.deployments:
        raise NotFoundError(f"there is no deployment {name}", "`studio deployments list` shows those there are.")
    replicas = await coordinator.call(
        coordinator.admin.ListReplicas, ListReplicasRequest(deployment=name), f"list the replicas of {name}"
    )
    return found.deployments[0], list(replicas.replicas)


async def until_serving(
    coordinator: Coordinator, name: str, report: Report, timeout_seconds: float, believe: Believe = believe_all
) -> None:
    """Wait for ``name`` as a step of ``report``. Raises NotServingError, or NotSettledError where it takes too long."""
    with report.step(name) as step:
        standing = await until_settled(
            coordinator, name, lambda lines: step.update("; ".join(lines)), timeout_seconds, believe
        )
        if standing.verdict is Verdict.FAILED and standing.failure is not None:
            step.done(f"failed: {standing.failure.reason}")
            raise NotServingError(
                f"{name}: {standing.failure.reason}: {standing.failure.message}", standing.failure.hint
            )
        if standing.verdict is Verdict.STOPPED:
            step.done(f"is stopped: studio start {name}")
        else:
            step.done(describe_ready(standing, step.seconds), timed=False)


async def until_settled(
    coordinator: Coordinator, name: str, show: Show, timeout_seconds: float, believe: Believe = believe_all
) -> Standing:
    """Wait until ``name`` is ready and ``believe`` agrees, or stopped, or failed. Raises NotSettledError after the time."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            deployment, replicas = await look(coordinator, name)
        except UnavailableError as error:
            lines: tuple[str, ...] = (f"waiting for the coordinator: {error.message}",)
        else:
            standing = judge(deployment, replicas, datetime.now(UTC))
            if standing.verdict is not Verdict.WAITING and await believe(standing):
                return standing
            lines = standing.lines or ("said to be ready, and does not answer yet",)
        show(lines)
        await pause(deadline, f"{name} is not ready", timeout_seconds, lines)


async def until_stopped(coordinator: Coordinator, name: str, show: Show, timeout_seconds: float) -> None:
    """Wait until ``name`` has no replica left. Raises NotSettledError after ``timeout_seconds``."""
    await until_none_left(coordinator, name, lambda replica: replica.deployment == name, show, timeout_seconds)


async def until_at_rest(coordinator: Coordinator, name: str, show: Show, timeout_seconds: float) -> str:
    """Wait until ``name`` holds no GPU any more; returns why it was woken meanwhile, else "". Raises NotSettledError."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            deployment, replicas = await look(coordinator, name)
        except UnavailableError as error:
            lines: tuple[str, ...] = (f"waiting for the coordinator: {error.message}",)
        else:
            if deployment.rest == Deployment.REST_AWAKE:
                return deployment.rest_reason
            up = [row for row in replicas if row.state not in (Replica.STATE_SLEEPING, Replica.STATE_STOPPED)]
            if not up:
                return ""
            lines = tuple(f"{row.id}: {row.state_reason}" for row in up)
        show(lines)
        await pause(deadline, f"{name} still runs", timeout_seconds, lines)


async def until_none_left(
    coordinator: Coordinator, where: str, counts: Callable[[Replica], bool], show: Show, timeout_seconds: float
) -> None:
    """Wait until no replica that ``counts`` is left of ``where``. Raises NotSettledError after ``timeout_seconds``."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            answer = await coordinator.call(coordinator.admin.ListReplicas, ListReplicasRequest(), "list the replicas")
        except UnavailableError as error:
            lines: tuple[str, ...] = (f"waiting for the coordinator: {error.message}",)
        else:
            left = [row for row in answer.replicas if counts(row) and row.state != Replica.STATE_STOPPED]
            if not left:
                return
            lines = tuple(
                f"{replica.id} {Replica.State.Name(replica.state).removeprefix('STATE_').lower()}"
                + (f": {replica.state_reason}" if replica.state_reason else "")
                for replica in left
            )
        show(lines)
        await pause(deadline, f"{where} still has replicas", timeout_seconds, lines)


async def pause(deadline: float, what: str, timeout_seconds: float, lines: tuple[str, ...]) -> None:
    """Wait for the next look. Raises NotSettledError past ``deadline``."""
    if time.monotonic() >= deadline:
        raise NotSettledError(
            f"{what} after {wording.duration(timeout_seconds)}: {'; '.join(lines)}",
            "It goes on without this command: `studio ps -w` shows how far it is; --timeout waits longer.",
        )
    await asyncio.sleep(POLL_SECONDS)
