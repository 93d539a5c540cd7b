"""The coordinator from outside: what agents, gateways and operators see on the wire."""

import asyncio
import hashlib
import hmac

import grpc
import pytest
from fakes.agent import FakeAgent, connected, until
from fakes.gateway import watching
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health_pb2, health_pb2_grpc
from studio.v1 import admin_service_pb2 as admin_pb2
from studio.v1.admin_service_pb2_grpc import AdminServiceStub
from studio.v1.agent_service_pb2 import (
    AgentEvent,
    AssignmentNack,
    ConnectRequest,
    EventBatch,
    Hello,
    LogChunk,
    ReplicaObservation,
    ReportTelemetryRequest,
)
from studio.v1.agent_service_pb2_grpc import AgentServiceStub
from studio.v1.event_pb2 import Event
from studio.v1.host_pb2 import HostFigures
from studio.v1.replica_pb2 import Failure, Replica, ReplicaFigures
from studio.v1.route_pb2 import ProviderRoute, UsageRecord
from studio.v1.route_service_pb2 import ReportUsageRequest
from studio.v1.route_service_pb2_grpc import RouteServiceStub
from studio_runtime.errors import InvalidManifestError, from_rpc_error

MANIFEST = """
kind: Recipe
name: demo
engine: {name: demo}
args: {demo: {load_seconds: LOAD}}
---
kind: Deployment
name: demo
recipe: demo
"""


def manifest(load: float = 1) -> str:
    return MANIFEST.replace("LOAD", str(load))


async def apply(admin: AdminServiceStub, text: str = "", **more: object) -> admin_pb2.ApplyResponse:
    return await admin.Apply(admin_pb2.ApplyRequest(manifest=text or manifest(), **more))  # type: ignore[arg-type]


async def replicas(admin: AdminServiceStub) -> dict[str, str]:
    rows = (await admin.ListReplicas(admin_pb2.ListReplicasRequest())).replicas
    return {row.id: Replica.State.Name(row.state).removeprefix("STATE_") for row in rows}


async def until_replicas(admin: AdminServiceStub, expected: dict[str, str]) -> None:
    async with asyncio.timeout(10):
        while (seen := await replicas(admin)) != expected:
            await asyncio.sleep(0.02)
    assert seen == expected


async def test_from_apply_to_ready_and_back_to_nothing(channel: grpc.aio.Channel, admin: AdminServiceStub) -> None:
    async with connected(channel, "h1") as agent, watching(channel) as gateway:
        gateway.acknowledges = False
        await apply(admin)
        await until(lambda: gateway.endpoints("demo") == ["demo-1"])
        assert await replicas(admin) == {"demo-1": "STARTING"}, "no gateway has acknowledged the route"
        await gateway.acknowledge()
        await until_replicas(admin, {"demo-1": "READY"})
        gateway.acknowledges = False
        await admin.StopDeployment(admin_pb2.StopDeploymentRequest(name="demo"))
        await until(lambda: gateway.endpoints("demo") == [])
        assert agent.assigned == ["demo-1"], "withdrawn and acknowledged before the engine is stopped"
        await gateway.acknowledge()
        await until(lambda: agent.assigned == [])
        await until_replicas(admin, {})


async def test_a_malformed_manifest_is_refused_whole_with_every_problem(admin: AdminServiceStub) -> None:
    bad = manifest().replace("engine: {name: demo}", "engine: {name: dmo}\nargs2: 1") + "replicas: {min: 3, max: 1}\n"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await apply(admin, bad)
    refusal = from_rpc_error(caught.value, "apply")
    assert isinstance(refusal, InvalidManifestError)
    assert {problem.path for problem in refusal.problems} >= {"engine.name", "args2", "replicas.max"}
    assert not (await admin.ListRecipes(admin_pb2.ListRecipesRequest())).recipes


async def test_a_dry_run_changes_nothing(admin: AdminServiceStub) -> None:
    answer = await apply(admin, dry_run=True)
    assert [item.outcome for item in answer.applied] == [admin_pb2.Applied.OUTCOME_CREATED] * 2
    assert not (await admin.ListDeployments(admin_pb2.ListDeploymentsRequest())).deployments


async def test_the_same_apply_twice_is_one_change(admin: AdminServiceStub) -> None:
    first = await apply(admin, idempotency_key="k1")
    assert await apply(admin, idempotency_key="k1") == first
    again = await apply(admin)
    assert [item.outcome for item in again.applied] == [admin_pb2.Applied.OUTCOME_UNCHANGED] * 2


async def test_a_stale_edit_is_refused_and_says_what_changed(admin: AdminServiceStub) -> None:
    await apply(admin)
    await admin.ScaleDeployment(admin_pb2.ScaleDeploymentRequest(name="demo", replicas=2))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await admin.ScaleDeployment(admin_pb2.ScaleDeploymentRequest(name="demo", replicas=3, expected_version=1))
    assert caught.value.code() == grpc.StatusCode.ABORTED
    assert "replicas" in (caught.value.details() or "")


async def test_an_unknown_name_is_not_found_with_a_hint(admin: AdminServiceStub) -> None:
    await apply(admin)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await admin.StopDeployment(admin_pb2.StopDeploymentRequest(name="dmo"))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    assert "demo" in from_rpc_error(caught.value, "stop").hint


async def test_a_second_session_of_a_host_ends_the_first(channel: grpc.aio.Channel, admin: AdminServiceStub) -> None:
    async with connected(channel, "h1") as first, connected(channel, "h1") as second:
        await until(lambda: first.ended is not None)
        assert second.welcome.session_epoch == first.welcome.session_epoch + 1
        hosts = (await admin.ListHosts(admin_pb2.ListHostsRequest())).hosts
        assert [host.name for host in hosts] == ["h1"]


async def test_a_host_that_saw_a_newer_database_is_an_event(channel: grpc.aio.Channel, admin: AdminServiceStub) -> None:
    hello = Hello(protocol=1, oldest_protocol=1, host_id="x", host_name="x", applied_generation=7, highest_term=1)
    agent = await FakeAgent(channel, "x").open(hello)
    told = await admin.ListEvents(admin_pb2.ListEventsRequest(host="x"))
    assert [event.kind for event in told.events] == ["host.connected", "host.ahead"]
    assert "generation 7" in told.events[1].message
    agent.hang_up()


async def test_two_hosts_that_call_themselves_alike_get_names_of_their_own(channel: grpc.aio.Channel) -> None:
    async with connected(channel, "h1") as first:
        other = await FakeAgent(channel, "h1").open(
            Hello(protocol=1, oldest_protocol=1, host_id="another", host_name="h1")
        )
        assert (first.welcome.host_name, other.welcome.host_name) == ("h1", "h1-2")
        other.hang_up()


@pytest.mark.parametrize(
    "hello",
    [
        Hello(protocol=9, oldest_protocol=9, host_id="x", host_name="x"),
        Hello(protocol=1, oldest_protocol=1, host_name="x"),
        Hello(protocol=1, oldest_protocol=1, host_id="x" * 1000, host_name="x"),
        Hello(protocol=1, oldest_protocol=1, host_id="x", host_name="x", applied_generation=-1),
        Hello(protocol=1, oldest_protocol=1, host_id="x", host_name="x", replicas=[ReplicaObservation()] * 2000),
    ],
)
async def test_a_hello_out_of_range_is_refused_and_others_are_not_disturbed(
    channel: grpc.aio.Channel, admin: AdminServiceStub, hello: Hello
) -> None:
    async with connected(channel, "h1") as agent:
        bad = AgentServiceStub(channel).Connect()
        await bad.write(ConnectRequest(hello=hello))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await bad.read()
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        await agent.beat()
        await until(lambda: agent.received)
        assert len((await admin.ListHosts(admin_pb2.ListHostsRequest())).hosts) == 1


async def test_a_stream_that_does_not_begin_with_hello_is_refused(channel: grpc.aio.Channel) -> None:
    call = AgentServiceStub(channel).Connect()
    await call.write(ConnectRequest(events=EventBatch()))
    with pytest.raises(grpc.aio.AioRpcError, match="must be Hello"):
        await call.read()


async def test_what_a_host_refuses_is_an_event(channel: grpc.aio.Channel, admin: AdminServiceStub) -> None:
    async with connected(channel, "h1") as agent:
        await agent.say(assignment_nack=AssignmentNack(generation=3, reason="the brake"))
        await agent.say(assignment_nack=AssignmentNack(generation=4, replica_reasons={"demo-1": "cannot sleep"}))
        async with asyncio.timeout(10):
            while len(told := (await admin.ListEvents(admin_pb2.ListEventsRequest(host="h1"))).events) < 3:
                await asyncio.sleep(0.02)
        assert [(event.kind, event.replica) for event in told[1:]] == [
            ("assignment.refused", ""),
            ("replica.refused", "demo-1"),
        ]
        assert "the brake" in told[1].message


async def test_events_of_agents_are_stored_once_and_acknowledged(
    channel: grpc.aio.Channel, admin: AdminServiceStub
) -> None:
    batch = EventBatch(
        events=[
            AgentEvent(sequence=number, event=Event(kind="replica.failed", message=f"m{number}")) for number in (1, 2)
        ]
    )
    async with connected(channel, "h1") as agent:
        await agent.say(events=batch)
        await agent.say(events=batch)
        await until(lambda: any(message.event_ack.sequence == 2 for message in agent.received))
        told = await admin.ListEvents(admin_pb2.ListEventsRequest(limit=50))
        assert [event.message for event in told.events if event.kind == "replica.failed"] == ["m1", "m2"]
    async with connected(channel, "h1") as agent:
        assert agent.welcome.event_sequence_acked == 2


async def test_events_can_be_watched_from_where_one_stopped(admin: AdminServiceStub) -> None:
    await apply(admin)
    call = admin.WatchEvents(admin_pb2.WatchEventsRequest())
    first = await call.read()
    second = await call.read()
    call.cancel()
    assert [first.event.kind, second.event.kind] == ["recipe.applied", "deployment.applied"]
    resumed = admin.WatchEvents(admin_pb2.WatchEventsRequest(after_sequence=first.event.sequence))
    assert (await resumed.read()).event == second.event
    third = await resumed.read()
    await apply(admin, manifest(2))
    while third.event.kind != "recipe.applied":
        third = await resumed.read()
    assert "load_seconds" in third.event.message
    resumed.cancel()


async def test_a_failure_shows_with_its_reason(channel: grpc.aio.Channel, admin: AdminServiceStub) -> None:
    async with connected(channel, "h1", obedient=False) as agent:
        await apply(admin)
        await until(lambda: agent.assigned == ["demo-1"])
        failure = Failure(reason="exited", message="exit code 3", hint="look at the log")
        failed = ReplicaObservation(replica_id="demo-1", generation=1, state=Replica.STATE_FAILED, gave_up=True)
        failed.failure.CopyFrom(failure)
        failed.state_reason = "exit code 3; gave up"
        await agent.observe(failed)
        await until_replicas(admin, {"demo-1": "FAILED"})
        (row,) = (await admin.ListReplicas(admin_pb2.ListReplicasRequest(deployment="demo"))).replicas
        assert row.failure == failure
        (deployment,) = (await admin.ListDeployments(admin_pb2.ListDeploymentsRequest())).deployments
        assert deployment.state == deployment.STATE_FAILED
        await admin.StartDeployment(admin_pb2.StartDeploymentRequest(name="demo"))
        await until(lambda: [item.generation for item in agent.assignment.replicas] == [2])


async def test_a_log_is_pulled_from_the_host_that_has_it(channel: grpc.aio.Channel, admin: AdminServiceStub) -> None:
    async with connected(channel, "h1") as agent:
        await apply(admin)
        await until(lambda: agent.assigned == ["demo-1"])
        call = admin.StreamLogs(admin_pb2.StreamLogsRequest(name="demo", tail_bytes=100))
        await until(lambda: any(message.HasField("log_request") for message in agent.received))
        request = next(message.log_request for message in agent.received if message.HasField("log_request"))
        assert (request.replica_id, request.tail_bytes, request.follow) == ("demo-1", 100, False)
        await agent.say(log_chunk=LogChunk(request_id=request.request_id, data=b"hello\n"))
        await agent.say(log_chunk=LogChunk(request_id=request.request_id, end=True))
        assert [chunk.data async for chunk in call] == [b"hello\n"]
        await until(lambda: any(message.log_request.cancel for message in agent.received))


async def test_figures_show_beside_what_is_stored(channel: grpc.aio.Channel, admin: AdminServiceStub) -> None:
    async with connected(channel, "h1") as agent:
        await apply(admin)
        await until_replicas(admin, {"demo-1": "READY"})
        call = AgentServiceStub(channel).ReportTelemetry()
        figures = ReportTelemetryRequest(host_id="id-h1", session_epoch=agent.welcome.session_epoch)
        figures.host.CopyFrom(HostFigures(cpu_share=0.5))
        figures.replicas["demo-1"].CopyFrom(ReplicaFigures(running=3))
        await call.write(figures)
        async with asyncio.timeout(10):
            while True:
                (host,) = (await admin.ListHosts(admin_pb2.ListHostsRequest())).hosts
                (row,) = (await admin.ListReplicas(admin_pb2.ListReplicasRequest())).replicas
                if host.figures.cpu_share and row.figures.running:
                    break
                await asyncio.sleep(0.02)
        assert (host.figures.cpu_share, row.figures.running) == (0.5, 3)
        assert not row.figures.HasField("waiting"), "absent is not zero"
        call.cancel()


async def test_keys_reach_the_gateways_as_keyed_hashes(channel: grpc.aio.Channel, admin: AdminServiceStub) -> None:
    async with watching(channel) as gateway:
        made = await admin.CreateKey(admin_pb2.CreateKeyRequest(name="mine", models=["demo"]))
        await until(lambda: gateway.access.keys)
        (key,) = gateway.access.keys
        assert key.hash == hmac.new(gateway.access.pepper, made.secret.encode(), hashlib.sha256).digest()
        assert list(key.models) == ["demo"]
        (listed,) = (await admin.ListKeys(admin_pb2.ListKeysRequest())).keys
        assert not listed.hash
        await admin.RevokeKey(admin_pb2.RevokeKeyRequest(id=made.key.id))
        await until(lambda: gateway.access.keys[0].HasField("revoked_at"))


async def test_a_key_belongs_to_a_user_until_somebody_says_otherwise(
    channel: grpc.aio.Channel, admin: AdminServiceStub
) -> None:
    async with watching(channel) as gateway:
        made = await admin.CreateKey(admin_pb2.CreateKeyRequest(name="mine", user="alice@example.org"))
        rotated = await admin.RotateKey(admin_pb2.RotateKeyRequest(id=made.key.id))
        assert rotated.key.user == made.key.user == "alice@example.org"
        await admin.UpdateKey(admin_pb2.UpdateKeyRequest(id=made.key.id, name="still mine"))
        await until(lambda: [key.user for key in gateway.access.keys] == ["alice@example.org"] * 2)
        await admin.UpdateKey(admin_pb2.UpdateKeyRequest(id=made.key.id, user=""))
        await until(lambda: sorted(key.user for key in gateway.access.keys) == ["", "alice@example.org"])
        for wrong in ("lab/alice", "alice smith", "-"):
            with pytest.raises(grpc.aio.AioRpcError, match="no name of a user"):
                await admin.CreateKey(admin_pb2.CreateKeyRequest(name="no", user=wrong))


async def test_providers_are_routes_and_their_keys_are_names_of_variables(
    channel: grpc.aio.Channel, admin: AdminServiceStub
) -> None:
    provider = ProviderRoute(model="gpt", provider_model="openai/gpt-5-mini", api_key_env="OPENAI_API_KEY")
    async with watching(channel) as gateway:
        await admin.AddProvider(admin_pb2.AddProviderRequest(provider=provider))
        await until(lambda: list(gateway.routes.provider_routes) == [provider])
        provider.api_key_env = "sk-not-a-name"
        with pytest.raises(grpc.aio.AioRpcError, match="environment variable"):
            await admin.AddProvider(admin_pb2.AddProviderRequest(provider=provider))


async def test_usage_counts_each_request_once(channel: grpc.aio.Channel, admin: AdminServiceStub) -> None:
    at = Timestamp()
    at.GetCurrentTime()
    record = UsageRecord(request_id="r1", at=at, model="demo", status=200, prompt_tokens=5, completion_tokens=7)
    routes = RouteServiceStub(channel)
    for _ in range(2):
        await routes.ReportUsage(ReportUsageRequest(gateway_id="g1", records=[record]))
    (total,) = (await admin.ListUsage(admin_pb2.ListUsageRequest())).totals
    assert (total.model, total.requests, total.prompt_tokens, total.completion_tokens) == ("demo", 1, 5, 7)


async def test_health_and_reflection_answer(channel: grpc.aio.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    answer = await health.Check(health_pb2.HealthCheckRequest(service="studio.v1.AdminService"))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_drained_host_is_left_once_another_serves(channel: grpc.aio.Channel, admin: AdminServiceStub) -> None:
    async with connected(channel, "h1") as first, connected(channel, "h2") as second, watching(channel):
        await apply(admin)
        await until_replicas(admin, {"demo-1": "READY"})
        drained, other = (first, second) if first.assigned else (second, first)
        verb = admin_pb2.UpdateHostRequest.VERB_DRAIN
        answer = await admin.UpdateHost(admin_pb2.UpdateHostRequest(host=drained.host, verb=verb))
        assert (answer.host.cordoned, answer.host.draining) == (True, True)
        await until_replicas(admin, {"demo-2": "READY"})
        await until(lambda: drained.assigned == [])
        assert other.assigned == ["demo-2"]


async def test_hosts_are_labelled_and_labels_outlive_a_session(
    channel: grpc.aio.Channel, admin: AdminServiceStub
) -> None:
    async with connected(channel, "h1"):
        request = admin_pb2.UpdateHostRequest(
            host="h1", verb=admin_pb2.UpdateHostRequest.VERB_LABEL, labels={"pool": "prod"}
        )
        changed = (await admin.UpdateHost(request)).host
        request.labels["pool"] = "test"
        request.expected_version = changed.version - 1
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await admin.UpdateHost(request)
        assert caught.value.code() == grpc.StatusCode.ABORTED
    async with connected(channel, "h1"):
        (host,) = (await admin.ListHosts(admin_pb2.ListHostsRequest())).hosts
        assert dict(host.labels) == {"pool": "prod"}


async def test_a_connected_host_is_not_forgotten(channel: grpc.aio.Channel, admin: AdminServiceStub) -> None:
    async with connected(channel, "h1"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await admin.RemoveHost(admin_pb2.RemoveHostRequest(host="h1"))
        assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        with pytest.raises(grpc.aio.AioRpcError) as missing:
            await admin.RemoveHost(admin_pb2.RemoveHostRequest(host="h2"))
        assert "studio hosts" in from_rpc_error(missing.value, "remove").hint
