"""``studio wake`` and ``studio sleep`` at the coordinator, and what gateways say of who waits."""

import asyncio

import grpc
import pytest
from fakes.gateway import watching
from studio.v1 import admin_service_pb2 as admin_pb2
from studio.v1.admin_service_pb2_grpc import AdminServiceStub
from studio.v1.deployment_pb2 import Deployment
from studio.v1.route_service_pb2 import ModelTraffic
from studio_runtime.errors import ConflictError, InvalidError, from_rpc_error

MANIFEST = """
kind: Recipe
name: demo
engine: {name: demo}
args: {sleep_mode: SLEEPS}
---
kind: Deployment
name: demo
recipe: demo
"""


async def apply(admin: AdminServiceStub, *, sleeps: bool = True) -> None:
    manifest = MANIFEST.replace("SLEEPS", str(sleeps).lower())
    await admin.Apply(admin_pb2.ApplyRequest(manifest=manifest))  # type: ignore[misc]


async def put_to_rest(admin: AdminServiceStub, rest: "Deployment.Rest.ValueType") -> Deployment:
    answer = await admin.SleepDeployment(admin_pb2.SleepDeploymentRequest(name="demo", rest=rest))  # type: ignore[misc]
    return Deployment.FromString(answer.deployment.SerializeToString())


async def wake(admin: AdminServiceStub) -> Deployment:
    answer = await admin.WakeDeployment(admin_pb2.WakeDeploymentRequest(name="demo"))  # type: ignore[misc]
    return Deployment.FromString(answer.deployment.SerializeToString())


async def test_it_is_put_to_rest_and_woken_and_both_are_told(admin: AdminServiceStub) -> None:
    await apply(admin)
    down = await put_to_rest(admin, Deployment.REST_STOPPED)
    assert (down.state, down.rest) == (Deployment.STATE_ASLEEP, Deployment.REST_STOPPED)
    assert down.state_reason.endswith("stopped it until somebody asks for it")
    up = await wake(admin)
    assert (up.rest, up.wanted_replicas) == (Deployment.REST_AWAKE, 1)
    again = await wake(admin)
    assert again.rest_since == up.rest_since, "nothing happens to one that is awake"
    told = await admin.ListEvents(admin_pb2.ListEventsRequest(deployment="demo"))  # type: ignore[misc]
    kinds = [event.kind for event in told.events if event.kind in ("deployment.rests", "deployment.woken")]
    assert kinds == ["deployment.rests", "deployment.woken"]


async def test_what_makes_no_sense_is_refused_with_what_to_do(admin: AdminServiceStub) -> None:
    await apply(admin, sleeps=False)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await put_to_rest(admin, Deployment.REST_SLEEP)
    refused = from_rpc_error(caught.value, "rest")
    assert isinstance(refused, InvalidError)
    assert "studio sleep demo --stop" in refused.hint
    await apply(admin)
    await put_to_rest(admin, Deployment.REST_STOPPED)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await put_to_rest(admin, Deployment.REST_DEEP_SLEEP)
    assert isinstance(from_rpc_error(caught.value, "rest"), ConflictError), "no engine runs that could sleep"
    await admin.StopDeployment(admin_pb2.StopDeploymentRequest(name="demo"))  # type: ignore[misc]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await wake(admin)
    assert "studio start demo" in from_rpc_error(caught.value, "rest").hint


async def test_what_a_gateway_says_of_who_waits_wakes_the_model(
    admin: AdminServiceStub, channel: grpc.aio.Channel
) -> None:
    await apply(admin)
    await put_to_rest(admin, Deployment.REST_STOPPED)
    async with watching(channel) as gateway, asyncio.timeout(10):
        while not any(route.wakeable for route in gateway.routes.routes):
            await asyncio.sleep(0.01)
        await gateway.report(models=[ModelTraffic(model="demo", held=2)])
        while (deployment := await look(admin)).rest != Deployment.REST_AWAKE:
            await asyncio.sleep(0.01)
    assert deployment.rest_reason == "2 requests wait for it"


async def look(admin: AdminServiceStub) -> Deployment:
    answer = await admin.ListDeployments(admin_pb2.ListDeploymentsRequest(name="demo"))  # type: ignore[misc]
    return Deployment.FromString(answer.deployments[0].SerializeToString())
