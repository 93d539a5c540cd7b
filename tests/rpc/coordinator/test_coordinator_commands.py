"""Commands of operators, from the call to the host and back."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from fakes.agent import FakeAgent, connected, until
from studio.v1 import admin_service_pb2 as admin_pb2
from studio.v1.admin_service_pb2_grpc import AdminServiceStub
from studio.v1.agent_service_pb2 import (
    Command,
    CommandProgress,
    CommandResult,
    Hello,
    ObservationReport,
    PullModel,
)
from studio.v1.event_pb2 import Event
from studio.v1.host_pb2 import CachedModel, EngineEnvironment, HostFacts
from studio_runtime.errors import from_rpc_error

PULL = Command(command_id="mine", term=99, pull_model=PullModel(source="hf://lab/tiny"))
ABLE = HostFacts(features=["commands"])


def hello(host: str, facts: HostFacts = ABLE) -> Hello:
    return Hello(protocol=1, oldest_protocol=1, host_id=f"id-{host}", host_name=host, facts=facts)


@pytest.fixture
async def agent(channel: grpc.aio.Channel) -> AsyncIterator[FakeAgent]:
    async with an_agent(channel) as fake:
        yield fake


def an_agent(channel: grpc.aio.Channel, facts: HostFacts = ABLE) -> "_Connected":
    return _Connected(channel, facts)


class _Connected:
    """An agent that says what it can do."""

    def __init__(self, channel: grpc.aio.Channel, facts: HostFacts) -> None:
        self._agent = FakeAgent(channel, "lab-1", obedient=False)
        self._facts = facts

    async def __aenter__(self) -> FakeAgent:
        await self._agent.open(hello("lab-1", self._facts))
        self._task = asyncio.create_task(self._agent.run())
        return self._agent

    async def __aexit__(self, *_: object) -> None:
        self._agent.hang_up()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def asked(admin: AdminServiceStub, host: str = "lab-1", command: Command = PULL) -> "asyncio.Task[list[object]]":
    async def heard() -> list[object]:
        call = admin.RunCommand(admin_pb2.RunCommandRequest(host=host, command=command))
        return [getattr(one, one.WhichOneof("message")) async for one in call]

    return asyncio.ensure_future(heard())


async def commands_of(agent: FakeAgent) -> list[Command]:
    def found() -> list[Command]:
        return [one.command for one in agent.received if one.WhichOneof("message") == "command"]

    await until(found)
    return found()


async def test_a_command_goes_to_the_host_and_its_news_come_back(agent: FakeAgent, admin: AdminServiceStub):
    call = asked(admin)
    (command,) = await commands_of(agent)
    assert command.pull_model == PULL.pull_model
    # Who calls does not choose these.
    assert command.command_id != "mine"
    assert command.term == 1
    assert command.deadline.seconds
    await agent.say(command_progress=CommandProgress(command_id="another", detail="not for this one"))
    await agent.say(command_progress=CommandProgress(command_id=command.command_id, detail="half", share=0.5))
    result = CommandResult(command_id=command.command_id, ok=True, message="it is there")
    await agent.say(command_result=result)
    *progress, last = await call
    assert last == result
    assert [one.detail for one in progress if isinstance(one, CommandProgress)] in (["half"], [])
    listed = await admin.ListEvents(admin_pb2.ListEventsRequest())
    (event,) = [one for one in listed.events if one.kind == "command.asked"]
    assert (event.host, event.message, event.severity) == (
        "lab-1",
        "lab-1 was asked to pull model",
        Event.SEVERITY_INFO,
    )


async def test_a_session_that_breaks_is_followed_by_the_next_one(channel: grpc.aio.Channel, admin: AdminServiceStub):
    async with an_agent(channel) as first:
        call = asked(admin)
        (command,) = await commands_of(first)
    async with an_agent(channel) as second:
        (again,) = await commands_of(second)
        # The same, so that an agent which has done it answers from its journal.
        assert again == command
        await second.say(command_result=CommandResult(command_id=again.command_id, ok=True))
        *_, last = await call
        assert isinstance(last, CommandResult)
        assert last.ok


async def test_two_commands_at_once_do_not_mix(agent: FakeAgent, admin: AdminServiceStub):
    calls = [asked(admin), asked(admin)]
    async with asyncio.timeout(10):
        while len(commands := await commands_of(agent)) < 2:
            await asyncio.sleep(0.01)
    for command in commands:
        await agent.say(command_result=CommandResult(command_id=command.command_id, message=command.command_id))
    results = {str(getattr((await call)[-1], "message", "")) for call in calls}
    assert results == {command.command_id for command in commands}


async def test_a_caller_that_hangs_up_is_forgotten(agent: FakeAgent, admin: AdminServiceStub):
    call = asked(admin)
    (command,) = await commands_of(agent)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await agent.say(command_progress=CommandProgress(command_id=command.command_id, detail="nobody hears it"))
    await agent.beat()
    await until(lambda: [one for one in agent.received if one.WhichOneof("message") == "heartbeat_ack"])


async def refusal(admin: AdminServiceStub, host: str, command: Command = PULL) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await asked(admin, host, command)
    return from_rpc_error(refused.value, "run a command").message


async def test_what_cannot_be_asked_is_refused(channel: grpc.aio.Channel, admin: AdminServiceStub):
    assert "no host 'none'" in await refusal(admin, "none")
    async with an_agent(channel, HostFacts()):
        assert "too old" in await refusal(admin, "lab-1")
        assert "no operation" in await refusal(admin, "lab-1", Command())
    async with connected(channel, "lab-2") as other:
        other.hang_up()
    async with asyncio.timeout(10):
        while "not connected" not in await refusal(admin, "lab-2"):
            await asyncio.sleep(0.01)


async def test_what_a_host_has_is_listed_as_it_said_last(agent: FakeAgent, admin: AdminServiceStub):
    report = ObservationReport(
        engines=[EngineEnvironment(engine="vllm", version="0.33.0")],
        models=[CachedModel(source="hf://lab/tiny", state=CachedModel.STATE_PULLING)],
    )
    await agent.say(observation=report)
    async with asyncio.timeout(10):
        while True:
            (host,) = (await admin.ListHosts(admin_pb2.ListHostsRequest())).hosts
            if host.models:
                break
            await asyncio.sleep(0.01)
    assert list(host.models) == list(report.models)
    assert list(host.facts.engines) == list(report.engines)
    await agent.say(observation=ObservationReport())
    async with asyncio.timeout(10):
        while host.models or host.facts.engines:
            (host,) = (await admin.ListHosts(admin_pb2.ListHostsRequest())).hosts
            await asyncio.sleep(0.01)
