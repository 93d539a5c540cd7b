"""Plan, Rebalance and what the coordinator learns of models, hosts and starts: on the wire, with agents that only answer."""

import asyncio
from contextlib import asynccontextmanager

import grpc
import pytest
from builders import GIB, a_gpu
from fakes.agent import FakeAgent, connected, until
from fakes.gateway import watching
from fakes.models import LLAMA_8B, description
from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1 import admin_service_pb2 as admin_pb2
from studio.v1.admin_service_pb2_grpc import AdminServiceStub
from studio.v1.agent_service_pb2 import (
    Command,
    CommandResult,
    LaunchPreview,
    ObservationReport,
    ReplicaObservation,
    ReportTelemetryRequest,
)
from studio.v1.agent_service_pb2_grpc import AgentServiceStub
from studio.v1.host_pb2 import CachedModel, GpuFigures, GpuProcess, HostFigures
from studio.v1.replica_pb2 import MeasuredMemory, Replica

RECIPE = """
kind: Recipe
name: llama
engine: {name: vllm, version: 0.33.0}
model: {source: "path:///srv/models/llama"}
args: {max_model_len: 4096}
"""
DEPLOYMENT = """
---
kind: Deployment
name: chat
recipe: llama
"""


def answers(command: Command) -> CommandResult:
    if command.HasField("read_model"):
        return CommandResult(ok=True, model=description(LLAMA_8B))
    replica = command.preview_launch.replica
    argv = ["vllm", "serve", "/srv/models/llama", f"--served-model-name={replica.model_names[0]}"]
    return CommandResult(ok=True, preview=LaunchPreview(argv=argv))


async def plan(admin: AdminServiceStub, manifest: str = RECIPE + DEPLOYMENT) -> admin_pb2.PlanResponse:
    return await admin.Plan(admin_pb2.PlanRequest(manifest=manifest))


async def apply(admin: AdminServiceStub, manifest: str = RECIPE + DEPLOYMENT) -> None:
    await admin.Apply(admin_pb2.ApplyRequest(manifest=manifest))


async def replica(admin: AdminServiceStub, name: str) -> Replica:
    rows = (await admin.ListReplicas(admin_pb2.ListReplicasRequest())).replicas
    return next((row for row in rows if row.id == name), Replica())


@asynccontextmanager
async def reporting(channel: grpc.aio.Channel, agent: FakeAgent, **figures: object):
    """Send one report of telemetry and keep the stream open."""
    call = AgentServiceStub(channel).ReportTelemetry()
    await call.write(
        ReportTelemetryRequest(session_epoch=agent.welcome.session_epoch, host_id=f"id-{agent.host}", **figures)  # type: ignore[arg-type]
    )
    yield
    call.cancel()


async def test_a_plan_tells_place_command_estimate_and_refusals_and_changes_nothing(
    channel: grpc.aio.Channel, admin: AdminServiceStub
) -> None:
    small = a_gpu("GPU-small", model="Tesla T4", memory_bytes=16 * GIB, compute_capability="7.5")
    async with connected(channel, "h1", a_gpu("GPU-1")) as first, connected(channel, "h2", small) as second:
        first.answers = second.answers = answers
        (planned,) = (await plan(admin)).replicas
        assert (planned.replica_id, planned.host_name, list(planned.gpu_uuids)) == ("chat-1", "h1", ["GPU-1"])
        assert planned.argv[0] == "vllm"
        assert planned.argv[-1] == "--served-model-name=chat"
        assert {part.name for part in planned.estimate.parts} >= {"weights", "kv", "activation", "graphs", "context"}
        weights = next(part for part in planned.estimate.parts if part.name == "weights")
        assert 14 * GIB < weights.bytes < 16 * GIB
        assert any("h2" in refusal and "16.0 GiB" in refusal for refusal in planned.refusals)
        assert not (await admin.ListRecipes(admin_pb2.ListRecipesRequest())).recipes
        assert not (await admin.ListDeployments(admin_pb2.ListDeploymentsRequest())).deployments
        assert not first.assigned


async def test_what_was_planned_is_what_is_done(channel: grpc.aio.Channel, admin: AdminServiceStub) -> None:
    async with connected(channel, "h1", a_gpu("GPU-1"), a_gpu("GPU-2", 1)) as agent:
        agent.answers = answers
        (planned,) = (await plan(admin)).replicas
        await apply(admin)
        await until(lambda: agent.assigned == ["chat-1"])
        assert list(agent.assignment.replicas[0].gpu_uuids) == list(planned.gpu_uuids)


async def test_a_recipe_alone_is_planned_as_if_it_were_deployed(
    channel: grpc.aio.Channel, admin: AdminServiceStub
) -> None:
    async with connected(channel, "h1", a_gpu()) as agent:
        agent.answers = answers
        (planned,) = (await plan(admin, RECIPE)).replicas
        assert (planned.deployment, planned.host_name) == ("llama", "h1")


async def test_a_model_that_no_host_can_read_is_placed_by_what_the_recipe_says(
    channel: grpc.aio.Channel, admin: AdminServiceStub
) -> None:
    async with connected(channel, "h1", a_gpu()) as agent:
        agent.answers = lambda _: CommandResult(message="there is no directory /srv/models/llama on this host")
        (planned,) = (await plan(admin)).replicas
        assert planned.host_name == "h1"
        assert not planned.HasField("estimate")
        assert "its memory is not known" in planned.reason
        assert "there is no directory /srv/models/llama" in planned.reason
        await apply(admin)
        await until(lambda: agent.assigned == ["chat-1"])


async def test_a_stranger_on_the_gpu_is_named_in_the_refusal_and_in_the_event(
    channel: grpc.aio.Channel, admin: AdminServiceStub
) -> None:
    stranger = GpuProcess(pid=41213, command="python", user="alice", memory_used_bytes=70 * GIB)
    figures = {"GPU-1": GpuFigures(memory_used_bytes=70 * GIB, processes=[stranger])}
    async with connected(channel, "h1", a_gpu("GPU-1")) as agent, reporting(channel, agent, gpus=figures):
        agent.answers = answers
        while not (await admin.ListHosts(admin_pb2.ListHostsRequest())).hosts[0].gpus[0].figures.processes:
            await asyncio.sleep(0.01)
        (planned,) = (await plan(admin)).replicas
        assert planned.host_name == ""
        told = "10.0 GiB free"
        assert any(told in text and "pid 41213 (python, user alice)" in text for text in planned.refusals)
        await apply(admin)
        async with asyncio.timeout(10):
            while told not in (await replica(admin, "chat-1")).state_reason:
                await asyncio.sleep(0.02)
        events = (await admin.ListEvents(admin_pb2.ListEventsRequest(replica="chat-1"))).events
        waiting = [event.message for event in events if event.kind == "replica.waiting"]
        assert len(waiting) == 1
        assert "pid 41213 (python, user alice)" in waiting[0]


async def test_a_full_disk_refuses_weights_that_are_not_there_yet(
    channel: grpc.aio.Channel, admin: AdminServiceStub
) -> None:
    hub = RECIPE.replace("path:///srv/models/llama", "hf://meta/llama")
    figures = HostFigures(disk_free_bytes=2 * GIB)
    # An obedient one would report again, without the model.
    async with connected(channel, "h1", a_gpu(), obedient=False) as agent, reporting(channel, agent, host=figures):
        agent.answers = answers
        partial = CachedModel(source="hf://meta/llama", revision="abc", state=CachedModel.STATE_PARTIAL)
        await agent.say(observation=ObservationReport(models=[partial], gpus=[a_gpu()]))
        while not (await admin.ListHosts(admin_pb2.ListHostsRequest())).hosts[0].models:
            await asyncio.sleep(0.01)
        (planned,) = (await plan(admin, hub)).replicas
        assert any("2.0 GiB of disk free" in text for text in planned.refusals), planned
        partial.state = CachedModel.STATE_COMPLETE
        await agent.say(observation=ObservationReport(models=[partial], gpus=[a_gpu()]))
        async with asyncio.timeout(10):
            while not planned.host_name:
                (planned,) = (await plan(admin, hub)).replicas
        assert "its weights are there" in planned.reason


async def test_what_a_start_measured_corrects_the_next_estimate(
    channel: grpc.aio.Channel, admin: AdminServiceStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studio_coordinator.knowledge.measurements.POLL_SECONDS", 0.02)
    async with connected(channel, "h1", a_gpu("GPU-1"), obedient=False) as agent:
        agent.answers = answers
        await apply(admin)
        await until(lambda: agent.assigned == ["chat-1"])
        now = Timestamp()
        now.GetCurrentTime()
        measured = MeasuredMemory(weights_bytes=20 * GIB, activation_bytes=GIB)
        seen = agent.ready("chat-1")
        seen.MergeFrom(ReplicaObservation(measured=measured, started_at=now, state_since=now, gpu_uuids=["GPU-1"]))
        await agent.say(observation=ObservationReport(replicas=[seen], gpus=[a_gpu("GPU-1")], applied_generation=1))
        parts: dict[str, admin_pb2.MemoryPart] = {}
        async with asyncio.timeout(10):
            while not parts or parts["weights"].source != "measured":
                (planned,) = (await plan(admin)).replicas
                parts = {part.name: part for part in planned.estimate.parts}
        assert parts["weights"].bytes == 20 * GIB
        assert parts["activation"].source == "measured"
        assert parts["graphs"].source == "formula"
        assert (await replica(admin, "chat-1")).measured == measured


async def test_a_rebalance_heals_spread_without_a_gap(channel: grpc.aio.Channel, admin: AdminServiceStub) -> None:
    manifest = RECIPE + DEPLOYMENT + "replicas: {min: 2}\n"
    async with watching(channel) as gateway, connected(channel, "h1", a_gpu("A-0"), a_gpu("A-1", 1)) as first:
        first.answers = answers
        await apply(admin, manifest)
        await until(lambda: gateway.endpoints("chat") == ["chat-1", "chat-2"])
        async with connected(channel, "h2", a_gpu("B-0")) as second:
            second.answers = answers
            moves: list[admin_pb2.Move] = []
            async with asyncio.timeout(10):
                while not moves:
                    answer = await admin.Rebalance(admin_pb2.RebalanceRequest(dry_run=True))
                    moves = list(answer.moves)
            assert [(move.from_host, move.to_host) for move in moves] == [("h1", "h2")]
            assert not second.assigned, "it was only proposed"
            await admin.Rebalance(admin_pb2.RebalanceRequest())
            await until(
                lambda: gateway.endpoints("chat") == sorted({"chat-1", "chat-2", "chat-3"} - {moves[0].replica_id})
            )
            await until(lambda: len(first.assigned) == len(second.assigned) == 1)
            nothing = await admin.Rebalance(admin_pb2.RebalanceRequest(dry_run=True))
            assert nothing.reason == "no move would free a host or heal spread"
            served = [len(table.routes[0].endpoints) for table in gateway.tables if table.routes]
            assert min(served[served.index(2) :]) == 2, "never fewer than wanted"
