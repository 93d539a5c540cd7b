"""An agent on the wire: a real stream to a real coordinator, that says what the test has it say and keeps what it is told."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Self

import grpc
from studio.v1.agent_service_pb2 import (
    AssignmentAck,
    Command,
    CommandResult,
    ConnectRequest,
    ConnectResponse,
    Heartbeat,
    Hello,
    ObservationReport,
    ReplicaObservation,
    Welcome,
)
from studio.v1.agent_service_pb2_grpc import AgentServiceStub
from studio.v1.assignment_pb2 import Assignment
from studio.v1.host_pb2 import Gpu
from studio.v1.replica_pb2 import Replica


async def until(condition: Callable[[], object], at_most_seconds: float = 10.0) -> None:
    """Wait for a condition; fails with its source when it does not come true."""
    async with asyncio.timeout(at_most_seconds):
        while not condition():
            await asyncio.sleep(0.01)


class FakeAgent:
    """Speaks for one host. ``obedient``: takes up each assignment at once and reports every replica ready."""

    def __init__(self, channel: grpc.aio.Channel, host: str, *, obedient: bool = True) -> None:
        self._call = AgentServiceStub(channel).Connect()
        self.host = host
        self.obedient = obedient
        self.welcome = Welcome()
        self.assignment = Assignment()
        self.received: list[ConnectResponse] = []
        self.ended: grpc.StatusCode | None = None
        # What it answers to commands; None: it never does.
        self.answers: Callable[[Command], CommandResult] | None = None
        # A call takes one write at a time, and what is obeyed is answered while the test speaks.
        self._speaking = asyncio.Lock()

    async def say(self, **message: object) -> None:
        async with self._speaking:
            await self._call.write(ConnectRequest(**message))  # type: ignore[arg-type]

    async def open(self, hello: Hello | None = None) -> Self:
        hello = hello or Hello(protocol=1, oldest_protocol=1, host_id=f"id-{self.host}", host_name=self.host)
        await self.say(hello=hello)
        first = await self._call.read()
        assert isinstance(first, ConnectResponse), "the coordinator ended the stream"
        self.welcome = first.welcome
        if self.welcome.HasField("assignment"):
            await self._take(self.welcome.assignment)
        return self

    async def run(self) -> None:
        try:
            # Reading and iterating may not be mixed on one call.
            while isinstance(message := await self._call.read(), ConnectResponse):
                self.received.append(message)
                if message.WhichOneof("message") == "assignment":
                    await self._take(message.assignment)
                elif message.WhichOneof("message") == "command" and self.answers is not None:
                    result = self.answers(message.command)
                    result.command_id = message.command.command_id
                    await self.say(command_result=result)
        except grpc.aio.AioRpcError as error:
            self.ended = error.code()

    async def beat(self, sequence: int = 1) -> None:
        await self.say(heartbeat=Heartbeat(sequence=sequence, applied_generation=self.assignment.generation))

    async def observe(self, *replicas: ReplicaObservation) -> None:
        report = ObservationReport(replicas=replicas, applied_generation=self.assignment.generation)
        await self.say(observation=report)

    async def _take(self, assignment: Assignment) -> None:
        self.assignment = assignment
        await self.say(assignment_ack=AssignmentAck(generation=assignment.generation))
        if self.obedient:
            await self.observe(*[self.ready(item.replica_id, item.generation) for item in assignment.replicas])

    def ready(self, replica_id: str, generation: int = 1) -> ReplicaObservation:
        return ReplicaObservation(
            replica_id=replica_id,
            generation=generation,
            state=Replica.STATE_READY,
            base_url=f"http://127.0.0.1:1/{replica_id}",
            pid=1,
        )

    @property
    def assigned(self) -> list[str]:
        return [item.replica_id for item in self.assignment.replicas]

    def hang_up(self) -> None:
        self._call.cancel()


@asynccontextmanager
async def connected(
    channel: grpc.aio.Channel, host: str, *gpus: Gpu, obedient: bool = True
) -> AsyncIterator[FakeAgent]:
    hello = Hello(protocol=1, oldest_protocol=1, host_id=f"id-{host}", host_name=host, gpus=gpus)
    agent = await FakeAgent(channel, host, obedient=obedient).open(hello)
    task = asyncio.create_task(agent.run())
    try:
        yield agent
    finally:
        agent.hang_up()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
