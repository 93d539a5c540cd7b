"""Keeps the router of a LiteLLM proxy that somebody runs already in step with the fleet, without a database.

The proxy calls ``start`` in each of its workers::

    LITELLM_WORKER_STARTUP_HOOKS=studio_gateway.litellm_plugin:start
    STUDIO_COORDINATOR=control:7070              one or more, tried in turn
    STUDIO_GATEWAY_STATE_DIR=/var/lib/…          tables, names, and the identity that ``studio-gateway join`` made there
    STUDIO_GATEWAY_TOKEN_FILE=…                  where the coordinator asks for a token on loopback

Each worker is a gateway of its own to the coordinator, and acknowledges a table when its router holds it. Only deployments that
were put in here are ever changed. Keys and limits stay the proxy's: those of the fleet are not looked at.
"""

import asyncio
import logging
import os
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

import structlog
from prometheus_client import CollectorRegistry
from studio_runtime.bearer import Bearer
from studio_runtime.process import lock_folder
from studio_runtime.settings import DEFAULT_COORDINATOR_PORT, Address

from studio_gateway.account import Metrics
from studio_gateway.enrol import GatewayIdentity
from studio_gateway.in_force import InForce
from studio_gateway.last_good import LastGood
from studio_gateway.limits import Limits
from studio_gateway.link import Link
from studio_gateway.litellm_deployments import deployments_of
from studio_gateway.litellm_router import FleetInRouter
from studio_gateway.table import Routes
from studio_gateway.traffic import Traffic
from studio_gateway.watch import RouteWatch

log = structlog.get_logger()

MOST_WORKERS = 256
# How soon a router is found that the proxy has made, or made anew.
LOOK_SECONDS = 0.2
PROXY = "litellm.proxy.proxy_server"


@dataclass(frozen=True)
class Settings:
    """What the environment says."""

    coordinators: list[Address]
    state_dir: Path
    token_file: Path | None

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Settings":
        """Raises ValueError, which is what the proxy then ends with."""
        named = environment.get("STUDIO_COORDINATOR", "")
        coordinators = [
            Address.parse(part.strip(), DEFAULT_COORDINATOR_PORT) for part in named.split(",") if part.strip()
        ]
        folder = environment.get("STUDIO_GATEWAY_STATE_DIR", "")
        if not coordinators or not folder:
            raise ValueError("the plugin of vLLM Studio needs STUDIO_COORDINATOR and STUDIO_GATEWAY_STATE_DIR")
        token_file = environment.get("STUDIO_GATEWAY_TOKEN_FILE", "")
        return cls(coordinators, Path(folder), Path(token_file) if token_file else None)


class Plugin:
    """The fleet in one worker's router. ``lock`` is kept for as long as the worker lives."""

    def __init__(self, settings: Settings, folder: Path, lock: IO[str]) -> None:
        self._lock = lock
        self._identity = GatewayIdentity(folder, is_worker=True)
        self._in_force = InForce(Metrics(CollectorRegistry()))
        last_good = LastGood(folder)
        last_good.load_into(self._in_force)
        self._in_force.on_routes.append(self._look)
        self._fleet: FleetInRouter | None = None
        self._watch = RouteWatch(
            Link(settings.coordinators, self._identity.tls, Bearer(settings.token_file)),
            self._in_force,
            last_good,
            self._identity.gateway_id,
            _own_version(),
            Traffic(uuid.uuid4().hex),
            on_authorities=self._hear,
        )

    async def run(self) -> None:
        """Until cancelled."""
        self._renewal = self._identity.renewal()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch.run())
            tasks.create_task(self._follow_router())
            if self._renewal is not None:
                tasks.create_task(self._renewal.run())

    async def _follow_router(self) -> None:
        """The proxy makes its router after it has called ``start``, and may make another one: nothing tells when."""
        while True:
            router = getattr(sys.modules.get(PROXY), "llm_router", None)
            if router is not None and (self._fleet is None or self._fleet.router is not router):
                self._fleet = FleetInRouter(router, Limits().first_byte_seconds)
                if self._in_force.routes is not None:
                    self._look(self._in_force.routes)
            await asyncio.sleep(LOOK_SECONDS)

    def _look(self, routes: Routes) -> None:
        """Without a router yet nothing can be sent anywhere: there is nothing to keep in step."""
        if self._fleet is not None:
            models = {model.name: model for model in routes.by_name.values()}
            self._fleet.put(deployments_of(models.values(), with_aliases=True))

    def _hear(self, in_force: Any) -> None:
        if self._renewal is not None:
            self._renewal.hear(in_force)


async def start() -> None:
    """What the proxy calls; it goes on beside it, for as long as the worker lives. Raises ValueError, OSError."""
    settings = Settings.of(os.environ)
    plugin = Plugin(settings, *_own_folder(settings.state_dir))
    task = asyncio.get_running_loop().create_task(plugin.run(), name="vllm-studio")
    RUNNING.add(task)
    task.add_done_callback(_ended)


# The loop keeps no tasks alive by itself.
RUNNING: set["asyncio.Task[None]"] = set()


def _ended(task: "asyncio.Task[None]") -> None:
    RUNNING.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        logging.getLogger("vllm-studio").error("The fleet is not followed any more: %r", error, exc_info=error)


def _own_folder(state_dir: Path) -> tuple[Path, IO[str]]:
    """The first folder that no other worker uses, and its lock."""
    for slot in range(MOST_WORKERS):
        folder = state_dir / f"worker-{slot}"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            return folder, lock_folder(folder)
        except BlockingIOError:
            continue
    raise ValueError(f"{MOST_WORKERS} workers use {state_dir} already")


def _own_version() -> str:
    try:
        return version("vllm-studio")
    except PackageNotFoundError:
        # Run from its sources.
        return "unknown"
