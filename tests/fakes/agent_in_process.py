"""The parts of an agent on the test's own loop: for what is hard to bring about from outside."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fakes.coordinator import FakeCoordinator
from studio.v1.agent_service_pb2 import Command, CommandResult
from studio.v1.event_pb2 import Event
from studio.v1.host_pb2 import HostFacts
from studio_agent.commands.desk import CommandDesk, Report
from studio_agent.commands.journal import CommandJournal
from studio_agent.environments.shelf import EngineShelf
from studio_agent.event_queue import EventQueue
from studio_agent.latest import Latest
from studio_agent.launch import Launcher
from studio_agent.ledger import FileStore, Ledger, LedgerStore
from studio_agent.link import Link
from studio_agent.models.cache import ModelCache
from studio_agent.models.roots import ModelRoots
from studio_agent.plan.health import HealthLimits
from studio_agent.plan.record import ReplicaRecord, State
from studio_agent.plan.start_limits import StartLimits
from studio_agent.probe import Prober
from studio_agent.session import Conversation, HostIdentity, keep_connected
from studio_agent.settings import AgentSettings, StateFolder, StopLimits
from studio_agent.supervise import Equipment, Supervisor
from studio_agent.supervise.event_log import EventLog
from studio_agent.supervise.gpus import Gpus, NoGpus
from studio_runtime.process import boot_id
from studio_runtime.settings import Address

# What is waited for may come about without a change of the ledger: an event that reached the disk, a GPU's figures.
POLL_SECONDS = 0.05


async def no_command(command: Command, _report: Report) -> CommandResult:
    raise AssertionError(f"a command came: {command}")


class AgentInProcess:
    """The parts of an agent, on the test's own loop; nothing runs until it is started."""

    def __init__(
        self,
        folder: Path,
        prober: Prober,
        launcher: Launcher,
        stop: StopLimits = StopLimits(),  # noqa: B008 - frozen
        health: HealthLimits = HealthLimits(),  # noqa: B008 - frozen
        gpus: Gpus | None = None,
        start: StartLimits = StartLimits(),  # noqa: B008 - frozen
        store: LedgerStore | None = None,
    ) -> None:
        changes: Latest[None] = Latest(None)
        settings = AgentSettings(
            StateFolder(folder),
            engines_dir=folder / "engines",
            host_name="test-host",
            start=start,
            stop=stop,
            health=health,
        )
        # Tests keep their models where they like.
        roots = ModelRoots((Path("/"),))
        settings.state.cache.mkdir(parents=True, exist_ok=True)
        self.events = EventQueue(settings.state.events)
        self.ledger = Ledger.load(store or FileStore(settings.state.ledger))
        self.ledger.changed = lambda: changes.set(None)
        self.equipment = Equipment(
            settings=settings,
            ledger=self.ledger,
            launcher=launcher,
            prober=prober,
            engines=EngineShelf(settings.engines_dir),
            models=ModelCache(settings.models, lambda: changes.set(None), roots=roots),
            events=EventLog(self.events, "test-host", lambda: changes.set(None)),
            boot_id=boot_id(),
            changes=changes,
            gpus=gpus or NoGpus(),
        )
        self.supervisor = Supervisor(self.equipment)
        identity = HostIdentity("id", "test-host", boot_id(), "instance", {"pool": "a"}, HostFacts, list, list, list)
        # What commands do is for tests of the whole agent: here is no group that would run them.
        desk = CommandDesk(CommandJournal(settings.state.commands), no_command, asyncio.TaskGroup())
        self.conversation = Conversation(
            identity, self.supervisor, self.ledger, self.events, settings.state, changes, desk
        )
        self.link: Latest[Link | None] = Latest(None)

    def say(self, text: str) -> None:
        self.events.put(Event(kind="test.said", message=text))

    async def dial(self, coordinator: FakeCoordinator) -> None:
        await keep_connected([Address.parse(coordinator.address)], self.conversation, self.link)

    async def until(self, condition: Callable[[], Any], timeout: float = 30.0) -> Any:
        """Wait until ``condition`` holds; it is asked again after every change, and now and then."""
        changes = self.equipment.changes
        async with asyncio.timeout(timeout):
            while not (result := condition()):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):
                        await changes.newer_than(changes.version)
            return result

    async def until_state(self, replica_id: str, state: "State.ValueType") -> ReplicaRecord:
        """Wait until the replica's record is in ``state``."""
        records = self.ledger.records
        await self.until(lambda: replica_id in records and records[replica_id].state == state)
        return records[replica_id]

    async def until_event(self, kind: str) -> Event:
        """Wait for an event of ``kind``."""

        def seen() -> Event | None:
            return next((event.event for event in self.events.after(0, 1000) if event.event.kind == kind), None)

        found = await self.until(seen)
        assert isinstance(found, Event)
        return found

    async def end(self) -> None:
        """Kill what engines are left."""
        launcher = self.equipment.launcher
        for record in self.ledger.records.values():
            if record.engine is not None:
                await launcher.kill(record.engine)
                await launcher.exited(record.engine)
                await launcher.release(record.engine)


@asynccontextmanager
async def supervising(agent: AgentInProcess) -> AsyncIterator[AgentInProcess]:
    """The agent supervises while the block runs; no engine outlives it."""
    running = asyncio.ensure_future(agent.supervisor.run())
    try:
        yield agent
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await agent.end()
