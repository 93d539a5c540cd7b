"""Puts the agent's parts together: the life of ``run`` and of ``stop-engines``."""

import asyncio
import random
import signal
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib import metadata
from typing import TYPE_CHECKING

import structlog
from studio.v1.host_pb2 import EngineEnvironment, HostFacts
from studio_runtime.bearer import Bearer
from studio_runtime.metrics import serve_metrics
from studio_runtime.process import announce_ready, boot_id, lock_folder
from studio_runtime.settings import Address
from studio_runtime.tracing import configure_tracing, flush_tracing

from studio_agent.commands.adapters import Adapters
from studio_agent.commands.desk import CommandDesk
from studio_agent.commands.inquiries import Inquiries
from studio_agent.commands.journal import CommandJournal
from studio_agent.commands.operations import Operations
from studio_agent.enrol import agree_on_host_id
from studio_agent.environments.shelf import EngineShelf
from studio_agent.errors import MetricsAddressError, StateFolderInUseError
from studio_agent.event_queue import EventQueue
from studio_agent.gpu.sampler import GpuSampler
from studio_agent.gpu_watch import first_picture, known_health, room_of, watch_gpus
from studio_agent.host_figures import host_facts
from studio_agent.latest import Latest
from studio_agent.launch import EngineCgroups, Launcher, ProcessLauncher, SystemdLauncher
from studio_agent.launch.owner import replica_of
from studio_agent.ledger import FileStore, Ledger
from studio_agent.link import Link
from studio_agent.models.cache import ModelCache
from studio_agent.models.roots import ModelRoots
from studio_agent.probe import Prober
from studio_agent.secrets import SecretBox
from studio_agent.session import Conversation, HostIdentity, keep_connected
from studio_agent.settings import AgentSettings, RunSettings, StateFolder
from studio_agent.supervise import Equipment, Supervisor
from studio_agent.supervise.event_log import EventLog
from studio_agent.supervise.race import first_of
from studio_agent.telemetry import HostSampler, report_telemetry

if TYPE_CHECKING:
    from studio_runtime.identity.renewal import Renewal

# What this agent can do beyond the first version of the contract; both sides must list a feature before it is used.
FEATURES = ("logs", "telemetry", "commands", "groups")

log = structlog.get_logger()


async def run(settings: AgentSettings, running: RunSettings) -> None:
    """Supervise this host and stay connected until cancelled. Raises StateFolderInUseError."""
    configure_tracing("studio-agent")
    with _owned(settings.state):
        agree_on_host_id(settings.state)
        try:
            async with _equipped(settings) as equipment:
                await _run_equipped(equipment, running)
        finally:
            await asyncio.to_thread(flush_tracing)


async def stop_engines(settings: AgentSettings) -> None:
    """Stop every engine that an agent on this state folder started, the careful way; SIGINT cuts every grace short.

    Raises StateFolderInUseError.
    """
    hurry = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, hurry.set)
    with _owned(settings.state):
        async with _equipped(settings) as equipment:
            # What is to run is asked anew next time: nothing starts again before a coordinator has said so.
            equipment.ledger.drop_assignment()
            first, _ = await first_of(Supervisor(equipment, winding_down=True).run(), hurry.wait())
            if first == 1:
                # Another one takes up what this one began, as it would after a crash.
                hurried = replace(equipment, settings=replace(settings, hurried=True))
                await Supervisor(hurried, winding_down=True).run()


async def _run_equipped(equipment: Equipment, running: RunSettings) -> None:
    settings, host_id = equipment.settings, equipment.settings.state.host_id()
    metrics = _serve_metrics(running.metrics)
    gpu_news: Latest[None] = Latest(None)
    sampling = GpuSampler(
        owner_of=lambda pid: replica_of(pid, host_id),
        known_health=known_health(settings.state.gpu_health),
        wake=lambda: gpu_news.set(None),
    )
    async with sampling as sampler, asyncio.TaskGroup() as group:
        link: Latest[Link | None] = Latest(None)
        equipment = replace(
            equipment,
            gpus=sampler,
            gpu_room=lambda uuids: room_of(sampler, uuids),
            secrets=SecretBox(link, host_id),
        )
        supervisor = Supervisor(equipment)
        group.create_task(supervisor.run(), name="supervisor")
        # What the first Hello says must be true: what runs here, on which GPUs.
        await supervisor.adopted()
        await first_picture(sampler, gpu_news)
        await equipment.engines.load()
        await equipment.models.load()
        operations = Operations(
            equipment.engines, equipment.models, sampler, equipment.events, lambda: supervisor.records
        )
        adapters = Adapters(equipment, lambda: supervisor.records, supervisor.note_adapter, operations)
        inquiries = Inquiries(equipment, adapters)
        desk = CommandDesk(CommandJournal.load(settings.state.commands), inquiries, group)
        renewal = _renewal(settings.state)
        conversation = _conversation(equipment, supervisor, sampler, desk, renewal)
        if renewal is not None:
            group.create_task(renewal.run(), name="identity")
        coordinators = ",".join(map(str, running.coordinators))
        for name, work in {
            "GPU health and events": watch_gpus(
                *(sampler, gpu_news, equipment.changes, equipment.events),
                settings.state.gpu_health,
                supervisor.hear,
            ),
            "session": keep_connected(
                *(running.coordinators, conversation, link, settings.state.identity.tls), Bearer(running.token_file)
            ),
            "telemetry": report_telemetry(
                link,
                HostSampler(
                    *(settings, host_id, equipment.readings, lambda: supervisor.records, sampler.figures),
                    supervisor.note_gpu_use,
                ),
            ),
        }.items():
            group.create_task(work, name=name)
        equipment.events.say("agent.started", f"the agent started on {settings.host_name}", version=_version())
        announce_ready(
            running.ready_file,
            host_id=host_id,
            coordinators=coordinators,
            metrics=None if metrics is None else str(metrics),
        )
        log.info("agent_ready", host_id=host_id, coordinators=coordinators, state=str(settings.state.root))


def _conversation(
    equipment: Equipment, supervisor: Supervisor, sampler: GpuSampler, desk: CommandDesk, renewal: "Renewal | None"
) -> Conversation:
    settings = equipment.settings
    identity = HostIdentity(
        host_id=settings.state.host_id(),
        host_name=settings.host_name,
        boot_id=equipment.boot_id,
        agent_instance_id=uuid.uuid4().hex,
        labels=settings.labels,
        facts=_facts(settings, equipment.engines.installed, lambda: sampler.driver_version),
        gpus=sampler.gpus,
        engines=equipment.engines.installed,
        models=equipment.models.models,
    )
    events = equipment.events.queue
    return Conversation(
        identity,
        supervisor,
        equipment.ledger,
        events,
        settings.state,
        equipment.changes,
        desk,
        on_authorities=(lambda _in_force: None) if renewal is None else renewal.hear,
    )


def _renewal(state: StateFolder) -> "Renewal | None":
    """What renews this host's identity; None where it has not joined."""
    if not state.identity.exists:
        return None
    from studio_runtime.identity.renewal import Renewal  # noqa: PLC0415 - 15 MB, which only a host that has joined needs

    return Renewal(state.identity, random.uniform)


def _serve_metrics(address: Address | None) -> Address | None:
    try:
        return None if address is None else serve_metrics(address)
    except OSError as error:
        raise MetricsAddressError(
            f"metrics cannot be served on {address}: {error.strerror}",
            "Choose another address with --metrics; port 0 takes a free one.",
        ) from None


@asynccontextmanager
async def _equipped(settings: AgentSettings) -> AsyncIterator[Equipment]:
    changes: Latest[None] = Latest(None)
    ledger = Ledger.load(FileStore(settings.state.ledger))
    ledger.changed = lambda: changes.set(None)
    host_id = settings.state.host_id()
    settings.state.cache.mkdir(parents=True, exist_ok=True)
    roots = ModelRoots((settings.models, *settings.model_roots))
    async with Prober() as prober:
        yield Equipment(
            settings=settings,
            ledger=ledger,
            launcher=_launcher(settings, host_id),
            prober=prober,
            engines=EngineShelf(settings.engines_dir, settings.wheelhouse, lambda: changes.set(None)),
            models=ModelCache(settings.models, lambda: changes.set(None), roots=roots),
            events=EventLog(EventQueue(settings.state.events), settings.host_name, lambda: changes.set(None)),
            boot_id=boot_id(),
            changes=changes,
        )


def _launcher(settings: AgentSettings, host_id: str) -> Launcher:
    if settings.launcher == "systemd":
        return SystemdLauncher.prepare(host_id, settings.state.cache)
    return ProcessLauncher(host_id, EngineCgroups.prepare(host_id))


class _owned:  # noqa: N801 - reads as what it is: with _owned(folder)
    """The state folder belongs to this process while the block runs."""

    def __init__(self, state: StateFolder) -> None:
        try:
            self._lock = lock_folder(state.root)
        except BlockingIOError as error:
            raise StateFolderInUseError(
                f"the state folder {state.root} is in use by another agent, process {error.filename}",
                "One agent owns a state folder. Stop that one, or give this one a folder of its own with --state-dir.",
            ) from None

    def __enter__(self) -> None:
        return

    def __exit__(self, *_: object) -> None:
        self._lock.close()


def _facts(
    settings: AgentSettings, engines: Callable[[], list[EngineEnvironment]], gpu_driver: Callable[[], str]
) -> Callable[[], HostFacts]:
    fixed = host_facts(settings.engine_address, settings.models, _version())
    fixed.features.extend(FEATURES)

    def now() -> HostFacts:
        facts = HostFacts(gpu_driver=gpu_driver(), engines=engines())
        facts.MergeFrom(fixed)
        return facts

    return now


def _version() -> str:
    return metadata.version("vllm-studio")
