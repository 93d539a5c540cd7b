"""Rollouts through the contract: a real coordinator and database, an agent that obeys, a gateway that reports what it sees."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from fakes.agent import connected
from fakes.gateway import FakeGateway, watching
from studio.v1 import admin_service_pb2 as admin_pb2
from studio.v1.admin_service_pb2_grpc import AdminServiceStub
from studio.v1.deployment_pb2 import Deployment, Rollout
from studio.v1.replica_pb2 import Histogram, Replica
from studio.v1.route_service_pb2 import EndpointTraffic
from studio_coordinator.manifest import parse
from studio_runtime.errors import from_rpc_error

RECIPE = "kind: Recipe\nname: tiny\nengine: {{name: demo}}\nargs: {{max_model_len: {length}}}\n"
CHAT = "kind: Deployment\nname: chat\nrecipe: tiny\nrollout: {canary: {share: 25%, for: 0s, min_requests: 10}}\n"


@pytest.fixture
async def gateway(channel: grpc.aio.Channel) -> AsyncIterator[FakeGateway]:
    """Beside an agent that has every replica ready at once."""
    async with connected(channel, "lab-1"), watching(channel) as watched:
        yield watched


async def apply(admin: AdminServiceStub, text: str) -> None:
    await admin.Apply(admin_pb2.ApplyRequest(manifest=text))


async def settled(
    admin: AdminServiceStub, phase: "Rollout.Phase.ValueType", *revisions: int, at_most_seconds: float = 20
) -> Deployment:
    """Wait until the rollout is in ``phase`` and replicas of ``revisions`` serve."""
    async with asyncio.timeout(at_most_seconds):
        while True:
            answer = await admin.GetRollout(admin_pb2.GetRolloutRequest(name="chat"))
            ready = sorted(row.recipe_revision for row in answer.replicas if row.state == Replica.STATE_READY)
            if answer.deployment.rollout.phase == phase and ready == list(revisions):
                return answer.deployment
            await asyncio.sleep(0.02)


async def in_canary(admin: AdminServiceStub, deployment: str = CHAT) -> Deployment:
    await apply(admin, RECIPE.format(length=1000) + "---\n" + deployment)
    await settled(admin, Rollout.PHASE_UNSPECIFIED, 1)
    await apply(admin, RECIPE.format(length=2000))
    return await settled(admin, Rollout.PHASE_CANARY, 1, 2)


def seen(replica_id: str, revision: int, requests: int, failed: int = 0) -> EndpointTraffic:
    times = Histogram(upper_bounds=[0.1, 0.2], counts=[0, requests], count=requests)
    return EndpointTraffic(
        replica_id=replica_id,
        recipe_revision=revision,
        requests=requests,
        failed=failed,
        time_to_first_token_seconds=times,
    )


async def test_a_canary_that_gateways_see_doing_well_takes_over_and_can_be_undone(
    admin: AdminServiceStub, gateway: FakeGateway
) -> None:
    await in_canary(admin)
    weights = {end.recipe_revision: end.weight for end in gateway.routes.routes[0].endpoints}
    assert weights[2] / (weights[1] + weights[2]) == pytest.approx(0.25)
    await gateway.report(seen("chat-1", 1, 30), seen("chat-2", 2, 10))
    done = await settled(admin, Rollout.PHASE_DONE, 2)
    assert done.rollout.new_figures.requests == 10
    assert done.rollout.new_figures.time_to_first_token_p50_seconds == pytest.approx(0.15)
    assert done.target_revision == 2
    await admin.UndoRollout(admin_pb2.UndoRolloutRequest(name="chat"))
    undone = await settled(admin, Rollout.PHASE_ROLLED_BACK, 1)
    assert undone.target_revision == 1
    await apply(admin, RECIPE.format(length=2000))
    await settled(admin, Rollout.PHASE_ROLLED_BACK, 1)


async def test_a_canary_that_fails_requests_is_rolled_back(admin: AdminServiceStub, gateway: FakeGateway) -> None:
    await in_canary(admin)
    await gateway.report(seen("chat-1", 1, 30), seen("chat-2", 2, 10, failed=3))
    found = await settled(admin, Rollout.PHASE_ROLLED_BACK, 1)
    assert "3 of 10 requests failed" in found.rollout.reason
    told = await admin.ListEvents(admin_pb2.ListEventsRequest(deployment="chat"))
    assert "rollout.rolled_back" in {event.kind for event in told.events}
    # Elsewhere nothing would keep the bad revision out, if the export did not name the one that serves.
    text = (await admin.ExportState(admin_pb2.ExportStateRequest())).manifest
    exported = parse(text)
    assert [(spec.recipe, spec.recipe_revision) for spec in exported.deployments] == [("tiny", 1)]
    assert [(number, one.args.max_model_len.value) for number, one in exported.numbered] == [(1, 1000)]
    # Here it only says what is so already.
    await apply(admin, text)
    pinned = await settled(admin, Rollout.PHASE_DONE, 1)
    assert (pinned.target_revision, pinned.spec.recipe_revision) == (1, 1)


async def test_paused_stands_still_and_resume_goes_on(admin: AdminServiceStub, gateway: FakeGateway) -> None:
    await in_canary(admin)
    paused = (await admin.PauseRollout(admin_pb2.PauseRolloutRequest(name="chat"))).deployment
    assert (paused.rollout.phase, paused.rollout.paused_in) == (Rollout.PHASE_PAUSED, Rollout.PHASE_CANARY)
    await gateway.report(seen("chat-1", 1, 30), seen("chat-2", 2, 20))
    await settled(admin, Rollout.PHASE_PAUSED, 1, 2)
    await admin.ResumeRollout(admin_pb2.ResumeRolloutRequest(name="chat"))
    await settled(admin, Rollout.PHASE_CANARY, 1, 2)
    # An operator has seen enough.
    await admin.ResumeRollout(admin_pb2.ResumeRolloutRequest(name="chat"))
    await settled(admin, Rollout.PHASE_DONE, 2)


@pytest.mark.usefixtures("gateway")
async def test_an_order_that_means_nothing_is_refused_with_what_would(admin: AdminServiceStub) -> None:
    await apply(admin, RECIPE.format(length=1000) + "---\n" + CHAT)
    for call, request in (
        (admin.PauseRollout, admin_pb2.PauseRolloutRequest(name="chat")),
        (admin.UndoRollout, admin_pb2.UndoRolloutRequest(name="chat")),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(request)
        assert "never changed its revision" in from_rpc_error(refused.value, "steer").message
    deployment = await in_canary(admin)
    with pytest.raises(grpc.aio.AioRpcError) as stale:
        await admin.PauseRollout(admin_pb2.PauseRolloutRequest(name="chat", expected_version=deployment.version + 1))
    assert stale.value.code() == grpc.StatusCode.ABORTED
