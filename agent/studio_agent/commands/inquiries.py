"""Commands that only look: what a model is, and with which command an engine would be started."""

import asyncio
from pathlib import Path

from studio.v1.agent_service_pb2 import (
    Command,
    CommandResult,
    LaunchPreview,
    ModelDescription,
    PreviewLaunch,
    ReadModel,
)
from studio.v1.assignment_pb2 import AssignedReplica
from studio.v1.recipe_pb2 import EngineChoice, ModelSource

from studio_agent.commands.desk import Operate, Report
from studio_agent.engines import driver_for
from studio_agent.engines.base import LaunchContext
from studio_agent.engines.inquiry.installed_flags import kept_flags_of
from studio_agent.engines.inquiry.model_directory import facts_at
from studio_agent.engines.preview import preview
from studio_agent.environments.shelf import runs_from
from studio_agent.models.description import describe_model
from studio_agent.models.errors import ModelMissingError
from studio_agent.models.source import repository_of
from studio_agent.supervise.equipment import Equipment
from studio_agent.supervise.ports import choose_port


class Inquiries:
    """Answers what only has to be looked at, and hands every other command on."""

    def __init__(self, equipment: Equipment, otherwise: Operate) -> None:
        self._equipment = equipment
        self._otherwise = otherwise

    async def __call__(self, command: Command, report: Report) -> CommandResult:
        """Do ``command``. Raises StudioError or OSError."""
        match command.WhichOneof("operation"):
            case "read_model":
                return CommandResult(ok=True, model=await self._read_model(command.read_model))
            case "preview_launch":
                return CommandResult(ok=True, preview=await self._preview(command.preview_launch))
            case _:
                return await self._otherwise(command, report)

    async def _read_model(self, wanted: ReadModel) -> ModelDescription:
        folder = await self._directory(ModelSource(source=wanted.source, revision=wanted.revision))
        if folder is None:
            raise ModelMissingError(f"{wanted.source} is not on this host", "It can be pulled: studio models pull.")
        return await asyncio.to_thread(describe_model, folder)

    async def _preview(self, wanted: PreviewLaunch) -> LaunchPreview:
        """The start of ``wanted.replica`` as it would be now; nothing is installed, fetched or started for it."""
        assigned, settings = wanted.replica, self._equipment.settings
        recipe = assigned.recipe
        driver_for(recipe.engine.name)
        program = await self._program(recipe.engine)
        # Asking an engine takes longer than a preview may; what it said at an earlier start is as good.
        known_flags = await kept_flags_of(recipe.engine.name, program, settings.engines_dir)
        model_path = await self._model_path(assigned)
        room = self._equipment.gpu_room(assigned.gpu_uuids)
        engines = (record.engine for record in self._equipment.ledger.records.values())
        context = LaunchContext(
            program=program,
            host=settings.engine_address,
            port=choose_port(settings.engine_address, settings.engine_ports, {one.port for one in engines if one}),
            model_path=model_path,
            model_names=tuple(assigned.model_names),
            gpu_uuids=tuple(assigned.gpu_uuids),
            gpu_memory_bytes=assigned.gpu_memory_bytes,
            cache_dir=settings.state.cache,
            process_label=assigned.replica_id,
            gpu_total_bytes=room.total_bytes,
            gpu_free_bytes=room.free_bytes,
            gpu_vendor=self._equipment.gpus.vendor,
            known_flags=known_flags,
            model=await asyncio.to_thread(facts_at, model_path),
            group=assigned.group if assigned.HasField("group") else None,
        )
        spec = preview(recipe, context)
        return LaunchPreview(argv=spec.argv, env=spec.env)

    async def _program(self, engine: EngineChoice) -> tuple[str, ...]:
        """The words that begin the command; the engine's bare name where it would be installed first."""
        here = any(runs_from(engine, environment) for environment in self._equipment.engines.installed())
        if engine.path or engine.name == "demo" or here:
            return await self._equipment.engines.program(engine, lambda _: None)
        return (engine.name,)

    async def _model_path(self, assigned: AssignedReplica) -> str:
        model = assigned.recipe.model
        if not model.source:
            return ""
        folder = await self._directory(model)
        return str(folder) if folder is not None else repository_of(model.source)

    async def _directory(self, model: ModelSource) -> Path | None:
        """Where the model is on this host; None for one that would be fetched first. Raises ModelError."""
        local = await self._equipment.models.local(model.source)
        return local if local is not None else await self._equipment.models.directory_of(model)
