"""Commands that give a running engine a LoRA adapter, and take it away.

The engine has it until it ends: what is to be there again after a restart belongs in the recipe.
"""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from studio.v1.agent_service_pb2 import Command, CommandResult, LoadLora, UnloadLora
from studio.v1.recipe_pb2 import LoraAdapter
from studio_runtime.errors import InvalidError, NotFoundError, SafetyError

from studio_agent.commands.desk import Operate, Report
from studio_agent.commands.operations import pulling
from studio_agent.engines import driver_for
from studio_agent.engines.base import CanLoadLora, HttpRequest
from studio_agent.errors import AdapterRefusedError
from studio_agent.models.source import check_adapter
from studio_agent.plan.record import Engine, ReplicaRecord, State
from studio_agent.supervise.equipment import Equipment
from studio_agent.supervise.observation import base_url

# An engine reads the adapter's files and copies them to every GPU; while it does, it may finish a long step first.
ENGINE_SECONDS = 120.0


class Adapters:
    """Loads and drops adapters of engines, and hands every other command on."""

    def __init__(
        self,
        equipment: Equipment,
        records: Callable[[], Mapping[str, ReplicaRecord]],
        note: Callable[[str, str, str, str | None], None],
        otherwise: Operate,
    ) -> None:
        """``note``: told the replica, its engine's token, the adapter, and its directory or None when it is to be gone."""
        self._equipment = equipment
        self._records = records
        self._note = note
        self._otherwise = otherwise

    async def __call__(self, command: Command, report: Report) -> CommandResult:
        """Do ``command``. Raises StudioError or OSError."""
        match command.WhichOneof("operation"):
            case "load_lora":
                return CommandResult(ok=True, message=await self._load(command.load_lora, report))
            case "unload_lora":
                return CommandResult(ok=True, message=await self._unload(command.unload_lora))
            case _:
                return await self._otherwise(command, report)

    async def _load(self, wanted: LoadLora, report: Report) -> str:
        adapter, replica_id = wanted.adapter, wanted.replica_id
        if not adapter.name:
            raise InvalidError("the adapter has no name", "The engine answers to its name.")
        record, *_ = self._ready(replica_id)
        if adapter.name in record.assigned.model_names:
            raise InvalidError(f"{adapter.name} is what {replica_id} itself answers to", "Choose another name.")
        folder = await self._obtain(adapter, report)
        # Fetching takes its time: the engine may have ended meanwhile.
        record, engine, driver = self._ready(replica_id)
        await self._send(replica_id, engine, driver.load_lora(adapter, str(folder)))
        self._note(replica_id, engine.token, adapter.name, str(folder))
        message = f"{replica_id} answers to {adapter.name} until its engine ends"
        self._equipment.events.say("lora.loaded", message, record, adapter=adapter.name, source=adapter.source)
        return message

    async def _unload(self, wanted: UnloadLora) -> str:
        record, engine, driver = self._ready(wanted.replica_id)
        # Its route goes first, and comes back where the engine keeps it.
        before = engine.adapters.get(wanted.name)
        self._note(wanted.replica_id, engine.token, wanted.name, None)
        try:
            await self._send(wanted.replica_id, engine, driver.unload_lora(wanted.name))
        except AdapterRefusedError:
            self._note(wanted.replica_id, engine.token, wanted.name, before)
            raise
        message = f"{wanted.replica_id} answers to {wanted.name} no longer"
        self._equipment.events.say("lora.unloaded", message, record, adapter=wanted.name)
        return message

    def _ready(self, replica_id: str) -> tuple[ReplicaRecord, Engine, CanLoadLora]:
        """A replica, its engine that serves, and the driver that gives it adapters. Raises StudioError with why it does not."""
        record = self._records().get(replica_id)
        if record is None:
            raise NotFoundError(f"there is no replica {replica_id} on this host", "See studio ps.")
        recipe = record.assigned.recipe
        driver = driver_for(recipe.engine.name)
        if not isinstance(driver, CanLoadLora):
            raise InvalidError(f"{recipe.engine.name} takes no adapters while it serves", "vLLM and SGLang do.")
        if not driver.takes_lora(recipe):
            raise InvalidError(
                f"{replica_id} was started without adapters, so it takes none",
                "Give its recipe an adapter in `lora`, or `enable-lora: true` in `extra_args`.",
            )
        if record.state != State.STATE_READY or record.engine is None:
            state = State.Name(record.state).removeprefix("STATE_")
            raise SafetyError(f"{replica_id} is {state}", "An adapter is loaded and dropped while its engine is READY.")
        return record, record.engine, driver

    async def _obtain(self, adapter: LoraAdapter, report: Report) -> Path:
        """The adapter's directory on this host, fetched where it is not here. Raises ModelError."""
        models = self._equipment.models
        folder = await models.local_adapter(adapter.source)
        if folder is None:
            folder = await models.obtain(adapter.source, adapter.revision, lambda said: report(pulling(said)))
            await asyncio.to_thread(check_adapter, folder)
        return folder

    async def _send(self, replica_id: str, engine: Engine, request: HttpRequest) -> None:
        url = base_url(self._equipment.settings.engine_address, engine.port) + request.path
        problem = await self._equipment.prober.request_problem(request.method, url, request.body, ENGINE_SECONDS)
        if problem:
            hint = f"See what it says: studio logs {replica_id}"
            raise AdapterRefusedError(f"the engine of {replica_id} would not: {problem}", hint)
