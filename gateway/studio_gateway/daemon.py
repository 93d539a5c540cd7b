"""The gateway's parts, put together and run."""

import asyncio
import gc
import os
import signal
import socket
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import structlog
from prometheus_client import REGISTRY
from studio_runtime.bearer import Bearer
from studio_runtime.logging import configure_logging
from studio_runtime.metrics import serve_metrics
from studio_runtime.process import announce_ready, die_with_parent, lock_folder, run_until_stopped
from studio_runtime.settings import Address
from studio_runtime.tracing import configure_tracing, flush_tracing
from studio_runtime.watchdog import Watchdog

from studio_gateway.account import Metrics
from studio_gateway.app import Gateway
from studio_gateway.deadlines import Deadlines
from studio_gateway.enrol import GatewayIdentity
from studio_gateway.forward import Forwarder
from studio_gateway.in_force import InForce
from studio_gateway.last_good import LastGood
from studio_gateway.limits import Limits
from studio_gateway.link import Link
from studio_gateway.litellm_import import LiteLlmConfigError, read_settings
from studio_gateway.litellm_lane import LiteLlmLane
from studio_gateway.litellm_process import LiteLlmProcess
from studio_gateway.provider_keys import ProviderKeys
from studio_gateway.quota.leasing import Leasing
from studio_gateway.report import UsageReporter
from studio_gateway.request_log import logged
from studio_gateway.server import Server, listen
from studio_gateway.spool import Spool
from studio_gateway.traffic import Traffic
from studio_gateway.upstream import Pool
from studio_gateway.waking.room import WaitingRoom
from studio_gateway.watch import RouteWatch

log = structlog.get_logger()

LIMITS = Limits()
# Whoever is told to end has this long after its last request, far more than its parts allow themselves.
LAST_SECONDS = 20.0
GARBAGE_THRESHOLDS = (50_000, 50, 100)


@dataclass(frozen=True)
class Settings:
    """What the command line says."""

    listen: Address
    # As one of several workers: the socket that their parent listens on, and the parent's process id.
    listen_fd: int | None
    parent: int | None
    coordinators: Sequence[Address]
    state_dir: Path
    metrics: Address | None
    ready_file: Path | None
    # "in-process", "process" or "off"; and the file of LiteLLM's own settings.
    litellm: str
    litellm_config: Path | None
    # What says who calls, on a loopback listener that asks for it.
    token_file: Path | None
    request_log: bool
    log_level: str


def run(settings: Settings) -> None:
    """Serve until SIGTERM; the process ends with one sentence and exit code 1 when it cannot start."""
    configure_logging("gateway", settings.log_level)
    configure_tracing("studio-gateway")
    try:
        if settings.litellm_config is not None:
            read_settings(settings.litellm_config)
        _lock = lock_folder(settings.state_dir)
        sock = listen(settings.listen) if settings.listen_fd is None else socket.socket(fileno=settings.listen_fd)
    except LiteLlmConfigError as error:
        sys.exit(str(error))
    except BlockingIOError as error:
        sys.exit(f"The gateway with process id {error.filename} uses {settings.state_dir}; name another --state-dir.")
    except OSError as error:
        sys.exit(f"Cannot listen on {settings.listen}: {error.strerror}; name another address with --listen.")
    if settings.parent is not None:
        die_with_parent()
        if os.getppid() != settings.parent:
            sys.exit("The process that started this worker has ended.")
    try:
        run_until_stopped(lambda: _run(settings, sock))
    finally:
        flush_tracing()


async def _run(settings: Settings, sock: socket.socket) -> None:
    identity = GatewayIdentity(settings.state_dir, is_worker=settings.parent is not None)
    gateway_id, renewal = identity.gateway_id, identity.renewal()

    def link() -> Link:
        return Link(settings.coordinators, identity.tls, Bearer(settings.token_file))

    metrics = Metrics(REGISTRY)
    in_force = InForce(metrics)
    last_good = LastGood(settings.state_dir)
    last_good.load_into(in_force)
    reporter = UsageReporter(link(), Spool(settings.state_dir / "usage"), gateway_id, metrics)
    keys = ProviderKeys(link(), in_force)
    traffic = Traffic(uuid.uuid4().hex)
    watch = RouteWatch(
        link(),
        in_force,
        last_good,
        gateway_id,
        version("vllm-studio"),
        traffic=traffic,
        on_authorities=(lambda _in_force: None) if renewal is None else renewal.hear,
    )

    async def announce() -> None:
        address = Address(settings.listen.host, sock.getsockname()[1])
        metrics_address = serve_metrics(settings.metrics) if settings.metrics else None
        fields = {"address": str(address), "metrics": str(metrics_address or "")}
        log.info("gateway_ready", gateway=gateway_id, **fields)
        try:
            await asyncio.to_thread(announce_ready, settings.ready_file, **fields)
        except OSError as error:
            # It serves all the same.
            log.warning("ready_file_not_written", error=str(error))

    with Deadlines() as deadlines, Pool(deadlines) as pool:
        async with asyncio.TaskGroup() as tasks:
            forwarder = Forwarder(in_force, pool, deadlines, metrics, LIMITS)
            lane = _lane(settings, in_force, forwarder, keys)
            if in_force.routes is not None:
                lane.look(in_force.routes)
            leasing = Leasing(link(), gateway_id, lambda: watch.is_connected)
            waiting = WaitingRoom(deadlines, traffic)
            in_force.on_routes += (
                keys.look,
                lane.look,
                waiting.look,
                lambda routes: traffic.forget_all_but(routes.by_name, routes.all_replica_ids),
            )
            record = logged(reporter.add) if settings.request_log else reporter.add
            gateway = Gateway(in_force, forwarder, lane, record, metrics, LIMITS, leasing, traffic, waiting)
            # Requests end before the group does: their usage is in the reporter's last batch.
            for part in (reporter, watch, lane, keys, leasing, *(() if renewal is None else (renewal,))):
                tasks.create_task(part.run(), name=type(part).__name__)
            server = Server(gateway, deadlines, LIMITS)
            _retire_on_hangup(server)
            tasks.create_task(Watchdog().keep_beating())
            # From here on nothing that was made at the start goes away: it need not be looked at for garbage.
            gc.freeze()
            # A request leaves no cycles behind: looking for them every 700 objects costs a tenth of its time.
            gc.set_threshold(*GARBAGE_THRESHOLDS)
            try:
                await server.serve(sock, announce)
            finally:
                asyncio.get_running_loop().call_later(LAST_SECONDS, _leave)


def _leave() -> None:
    """End now: requests have ended, and what was to be said at the end has been said or is on disk."""
    log.error("gateway_ended_by_force", tasks=sorted(task.get_name() for task in asyncio.all_tasks()))
    os._exit(os.EX_SOFTWARE)


def _lane(
    settings: Settings, in_force: InForce, forwarder: Forwarder, keys: ProviderKeys
) -> LiteLlmLane | LiteLlmProcess:
    """The way through LiteLLM that the operator has chosen."""
    if settings.litellm == "process":
        return LiteLlmProcess(in_force, forwarder, keys.of, settings.litellm_config, settings.log_level)
    return LiteLlmLane(
        in_force,
        LIMITS,
        enabled=settings.litellm != "off",
        stored_key=keys.of,
        settings=read_settings(settings.litellm_config) if settings.litellm_config is not None else {},
    )


def _retire_on_hangup(server: Server) -> None:
    """SIGHUP: another process has taken over; finish what is running, however long it takes, and end."""
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("the gateway runs as a task")

    def retire() -> None:
        server.drain_seconds = LIMITS.retire_seconds
        task.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, retire)
