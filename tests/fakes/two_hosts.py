"""Two hosts for one replica: two real agents, each with a coordinator of its own. The test says what the real one would."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fakes.agent_process import AgentProcess
from fakes.coordinator import FakeCoordinator, State
from fakes.ports import free_port
from studio.v1.agent_service_pb2 import ReplicaObservation
from studio.v1.assignment_pb2 import AssignedReplica, Group


class TwoHosts:
    def __init__(self, coordinators: list[FakeCoordinator], agents: list[AgentProcess]) -> None:
        self.coordinators = coordinators
        self.agents = agents
        self._port = free_port()

    def assign(self, replica: AssignedReplica, ranks: tuple[int, ...] = (0, 1)) -> None:
        """Have each of ``ranks`` run its part of ``replica``."""
        for rank in ranks:
            part = AssignedReplica()
            part.CopyFrom(replica)
            part.group.CopyFrom(Group(rank=rank, size=2, leader_address="127.0.0.1", leader_port=self._port))
            self.coordinators[rank].assign(part)

    def assign_nothing(self) -> None:
        for coordinator in self.coordinators:
            coordinator.assign()

    async def until_gone(self) -> None:
        for coordinator in self.coordinators:
            await coordinator.until(lambda seen=coordinator: not seen.observed, timeout=90)

    async def until(
        self, rank: int, state: "State.ValueType", *, after: int = 0, timeout: float = 30
    ) -> ReplicaObservation:
        """Wait for a rank in ``state``, in another process than ``after``."""

        def there() -> ReplicaObservation | None:
            found = [one for one in self.coordinators[rank].observed.values() if one.state == state]
            return next((one for one in found if one.pid != after), None)

        seen = await self.coordinators[rank].until(there, timeout=timeout)
        assert isinstance(seen, ReplicaObservation)
        return seen

    async def until_both(
        self, state: "State.ValueType", *, after: "tuple[ReplicaObservation, ...]" = (), timeout: float = 30
    ) -> tuple[ReplicaObservation, ReplicaObservation]:
        """The same of both ranks, each in another process than ``after``."""
        before = [one.pid for one in after] or [0, 0]
        waits = [self.until(rank, state, after=before[rank], timeout=timeout) for rank in (0, 1)]
        leader, member = await asyncio.gather(*waits)
        return leader, member


@asynccontextmanager
async def two_hosts(folder: Path, *extra: str) -> AsyncIterator[TwoHosts]:
    async with contextlib.AsyncExitStack() as stack:
        coordinators = [await stack.enter_async_context(FakeCoordinator()) for _ in range(2)]
        agents = []
        for rank, coordinator in enumerate(coordinators):
            home = folder / f"host-{rank}"
            home.mkdir()
            agents.append(await stack.enter_async_context(AgentProcess(home, coordinator.address, *extra)))
        for coordinator in coordinators:
            await coordinator.until(lambda seen=coordinator: seen.connected)
        yield TwoHosts(coordinators, agents)
