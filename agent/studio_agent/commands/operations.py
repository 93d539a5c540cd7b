"""What each command does on this host, and what it says when it is done."""

from collections.abc import Awaitable, Callable, Mapping

from studio.v1.agent_service_pb2 import (
    CancelPull,
    CheckGpu,
    Command,
    CommandProgress,
    CommandResult,
    InstallEngine,
    PausePull,
    PullModel,
    RemoveEngine,
    RemoveModel,
)
from studio.v1.host_pb2 import Gpu
from studio.v1.recipe_pb2 import EngineChoice
from studio.v1.replica_pb2 import StartProgress
from studio_runtime.errors import SafetyError

from studio_agent.commands.desk import Report
from studio_agent.environments.errors import EnvironmentFailedError
from studio_agent.environments.shelf import EngineShelf, runs_from
from studio_agent.gpu.sampler import GpuSampler
from studio_agent.models.cache import ModelCache
from studio_agent.models.errors import ModelInUseError
from studio_agent.models.start import hub_models
from studio_agent.models.voice import PullProgress
from studio_agent.plan.record import ReplicaRecord, State
from studio_agent.supervise.event_log import EventLog


class Operations:
    """Carries out commands with the host's parts."""

    def __init__(
        self,
        engines: EngineShelf,
        models: ModelCache,
        gpus: GpuSampler,
        events: EventLog,
        records: Callable[[], Mapping[str, ReplicaRecord]],
    ) -> None:
        self._engines = engines
        self._models = models
        self._gpus = gpus
        self._events = events
        self._records = records

    async def __call__(self, command: Command, report: Report) -> CommandResult:
        """Do ``command``. Raises StudioError or OSError."""
        operations: dict[str, Callable[[], Awaitable[str]]] = {
            "install_engine": lambda: self._install(command.install_engine, report),
            "remove_engine": lambda: self._remove_engine(command.remove_engine),
            "pull_model": lambda: self._pull(command.pull_model, report),
            "pause_pull": lambda: self._pause(command.pause_pull),
            "cancel_pull": lambda: self._cancel(command.cancel_pull),
            "remove_model": lambda: self._remove_model(command.remove_model),
            "check_gpu": lambda: self._check_gpu(command.check_gpu),
        }
        operation = operations.get(command.WhichOneof("operation") or "")
        if operation is None:
            hint = "Agents are upgraded after coordinators: see studio hosts -o wide."
            return CommandResult(reason="unknown_command", message="this agent does not know the command", hint=hint)
        return CommandResult(ok=True, message=await operation())

    async def _install(self, wanted: InstallEngine, report: Report) -> str:
        def installing(said: StartProgress) -> None:
            report(CommandProgress(detail=said.detail, share=said.share if said.HasField("share") else None))

        engine = EngineChoice(name=wanted.engine, version=wanted.version)
        program = await self._engines.program(engine, installing)
        message = f"{wanted.engine} is installed: {program[0]}"
        self._events.say("engine.installed", message)
        return message

    async def _remove_engine(self, wanted: RemoveEngine) -> str:
        environment = self._engines.choose(wanted.engine, wanted.version)
        users = [r.replica_id for r in self._live() if runs_from(r.assigned.recipe.engine, environment)]
        if users:
            raise EnvironmentFailedError(
                "in_use",
                f"{environment.engine} {environment.version} is used by {', '.join(sorted(users))}",
                "Stop what runs from it first.",
            )
        await self._engines.remove(environment)
        message = f"{environment.engine} {environment.version} is removed"
        self._events.say("engine.removed", message)
        return message

    async def _pull(self, wanted: PullModel, report: Report) -> str:
        folder = await self._models.pull(wanted.source, wanted.revision, lambda said: report(pulling(said)))
        message = f"{wanted.source} is complete in {folder}"
        self._events.say("model.complete", message)
        return message

    async def _pause(self, wanted: PausePull) -> str:
        await self._models.pause(wanted.source)
        return f"the pull of {wanted.source} is paused"

    async def _cancel(self, wanted: CancelPull) -> str:
        await self._models.cancel(wanted.source)
        return f"the pull of {wanted.source} is cancelled, and what was not whole is gone"

    async def _remove_model(self, wanted: RemoveModel) -> str:
        model = await self._models.choose(wanted.source, wanted.revision)
        users = {
            record.replica_id
            for record in self._live()
            for wish in hub_models(record.assigned.recipe)
            if await self._models.directory_of(wish) == model.root
        }
        users |= {
            record.replica_id
            for record in self._live()
            if record.engine is not None and str(model.root) in record.engine.adapters.values()
        }
        if users:
            raise ModelInUseError(f"{wanted.source} is used by {', '.join(sorted(users))}", "Stop what uses it first.")
        await self._models.remove(model)
        message = f"{wanted.source} {model.commit[:12]} is removed"
        self._events.say("model.removed", message)
        return message

    async def _check_gpu(self, wanted: CheckGpu) -> str:
        verdict = self._gpus.recheck(wanted.uuid)
        if verdict.health == Gpu.HEALTH_QUARANTINED:
            raise SafetyError(
                f"{wanted.uuid} stays in quarantine: {verdict.reason}", "Mend what is named, then check it again."
            )
        return f"{wanted.uuid} is {Gpu.Health.Name(verdict.health).removeprefix('HEALTH_').lower()}"

    def _live(self) -> list[ReplicaRecord]:
        return [record for record in self._records().values() if record.state != State.STATE_STOPPED]


def pulling(said: PullProgress) -> CommandProgress:
    """How far a pull is, as a command tells it."""
    progress = CommandProgress(detail=said.note)
    if said.bytes_total:
        progress.share = said.share or 0.0
        progress.bytes_done, progress.bytes_total = said.bytes_done, said.bytes_total
    return progress
