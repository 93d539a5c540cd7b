"""What one host says must not end the service of the others."""

import asyncio
import contextlib

import grpc
from fakes.agent import connected, until
from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1 import admin_service_pb2 as admin_pb2
from studio.v1.admin_service_pb2_grpc import AdminServiceStub
from studio.v1.agent_service_pb2 import AgentEvent, EventBatch, LogChunk
from studio.v1.event_pb2 import Event
from studio_runtime.errors import from_rpc_error

MANIFEST = "kind: Recipe\nname: demo\nengine: {name: demo}\n---\nkind: Deployment\nname: demo\nrecipe: demo\n"
FROM_THE_FUTURE = 99
AFTER_ALL_CALENDARS = 10**15


async def acknowledged(admin: AdminServiceStub, kind: str) -> list[Event]:
    answer = await admin.ListEvents(admin_pb2.ListEventsRequest())
    return [event for event in answer.events if event.kind == kind]


async def test_a_severity_that_a_newer_agent_says_is_stored_as_unspecified(
    channel: grpc.aio.Channel, admin: AdminServiceStub
) -> None:
    async with connected(channel, "h1") as agent:
        event = Event(kind="new", message="m", severity=FROM_THE_FUTURE)  # type: ignore[arg-type] # no value of today
        event.at.GetCurrentTime()
        await agent.say(events=EventBatch(events=[AgentEvent(sequence=1, event=event)]))
        await until(lambda: any(message.event_ack.sequence == 1 for message in agent.received))
    (stored,) = await acknowledged(admin, "new")
    assert stored.severity == Event.SEVERITY_UNSPECIFIED


async def test_an_event_with_an_impossible_time_is_stored_with_the_time_of_its_arrival(
    channel: grpc.aio.Channel, admin: AdminServiceStub
) -> None:
    async with connected(channel, "h1") as agent:
        before = Timestamp()
        before.GetCurrentTime()
        event = Event(kind="late", message="m", at=Timestamp(seconds=AFTER_ALL_CALENDARS))
        await agent.say(events=EventBatch(events=[AgentEvent(sequence=1, event=event)]))
        await until(lambda: any(message.event_ack.sequence == 1 for message in agent.received))
    (stored,) = await acknowledged(admin, "late")
    assert stored.at.ToMicroseconds() >= before.ToMicroseconds()


async def test_whoever_follows_a_log_is_told_when_its_host_goes(
    channel: grpc.aio.Channel, admin: AdminServiceStub
) -> None:
    async with connected(channel, "h1") as agent:
        await admin.Apply(admin_pb2.ApplyRequest(manifest=MANIFEST))
        await until(lambda: agent.assigned == ["demo-1"])
        call = admin.StreamLogs(admin_pb2.StreamLogsRequest(name="demo", follow=True))
        await until(lambda: any(message.HasField("log_request") for message in agent.received))
        request = next(message.log_request for message in agent.received if message.HasField("log_request"))
        await agent.say(log_chunk=LogChunk(request_id=request.request_id, data=b"hello\n"))
        read = []
        refusal: grpc.aio.AioRpcError | None = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                try:
                    async for chunk in call:
                        read.append(chunk.data)
                        agent.hang_up()
                except grpc.aio.AioRpcError as error:
                    refusal = error
        assert read == [b"hello\n"]
        assert refusal is not None, "the reader waits for ever"
        assert "the host disconnected" in from_rpc_error(refusal, "").message


async def test_a_state_that_a_newer_agent_says_does_not_hold_up_the_others(
    channel: grpc.aio.Channel, admin: AdminServiceStub
) -> None:
    async with connected(channel, "h1", obedient=False) as agent:
        await admin.Apply(admin_pb2.ApplyRequest(manifest=MANIFEST))
        await until(lambda: agent.assigned == ["demo-1"])
        said = agent.ready("demo-1")
        said.state = FROM_THE_FUTURE  # type: ignore[assignment] # no value of today
        await agent.observe(said)
        await agent.beat()
        await until(lambda: any(message.HasField("heartbeat_ack") for message in agent.received))
        await admin.Apply(admin_pb2.ApplyRequest(manifest=MANIFEST.replace("demo\n", "other\n")))
        await until(lambda: agent.assigned == ["demo-1", "other-1"])
