"""``studio-gateway``: start the gateway of a fleet.

Ready as soon as it listens: routes and keys come from the coordinator's stream, and until then from the last good copy on disk.
"""

import argparse
import asyncio
import socket
import sys
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import structlog
from prometheus_client import REGISTRY
from studio_runtime.logging import configure_logging
from studio_runtime.metrics import serve_metrics
from studio_runtime.process import announce_ready, lock_folder, run_until_stopped, write_atomically
from studio_runtime.settings import DEFAULT_COORDINATOR_PORT, DEFAULT_GATEWAY_PORT, Address, Home
from studio_runtime.tracing import configure_tracing, flush_tracing

from studio_gateway.account import Metrics
from studio_gateway.app import Gateway
from studio_gateway.forward import Forwarder
from studio_gateway.in_force import InForce
from studio_gateway.last_good import LastGood
from studio_gateway.limits import Limits
from studio_gateway.link import Link
from studio_gateway.litellm_lane import LiteLlmLane
from studio_gateway.report import UsageReporter
from studio_gateway.server import listen, serve
from studio_gateway.spool import Spool
from studio_gateway.watch import RouteWatch

log = structlog.get_logger()

EXAMPLES = """examples:
  studio-gateway --coordinator 10.0.0.2:7070
  studio-gateway --listen 0.0.0.0:4000 --coordinator 10.0.0.2:7070,10.0.0.3:7070 --state-dir /var/lib/studio/gateway
  studio-gateway --litellm off --metrics 127.0.0.1:9400
"""


@dataclass(frozen=True)
class Settings:
    """What the command line says."""

    listen: Address
    coordinators: Sequence[Address]
    state_dir: Path
    metrics: Address | None
    ready_file: Path | None
    litellm: bool
    limits: Limits


def main() -> None:
    """Run the gateway until SIGTERM; the exit code is 1 with one sentence when it cannot start."""
    arguments = _parser().parse_args()
    configure_logging("gateway", arguments.log_level)
    configure_tracing("studio-gateway")
    settings = Settings(
        listen=arguments.listen,
        coordinators=arguments.coordinator,
        state_dir=arguments.state_dir,
        metrics=arguments.metrics,
        ready_file=arguments.ready_file,
        litellm=arguments.litellm == "auto",
        limits=Limits(),
    )
    try:
        _lock = lock_folder(settings.state_dir)
        sock = listen(settings.listen)
    except BlockingIOError as error:
        sys.exit(f"The gateway with process id {error.filename} uses {settings.state_dir}; name another --state-dir.")
    except OSError as error:
        sys.exit(f"Cannot listen on {settings.listen}: {error.strerror}; name another address with --listen.")
    try:
        run_until_stopped(lambda: _run(settings, sock))
    finally:
        flush_tracing()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="studio-gateway",
        description="The OpenAI-compatible front door of a fleet.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    home = Home.from_environment()
    add = parser.add_argument
    add(
        "--listen",
        type=_address(DEFAULT_GATEWAY_PORT),
        default=f"127.0.0.1:{DEFAULT_GATEWAY_PORT}",
        metavar="HOST:PORT",
    )
    add(
        "--coordinator",
        type=_addresses,
        default=f"127.0.0.1:{DEFAULT_COORDINATOR_PORT}",
        metavar="HOST:PORT[,…]",
        help="one or more, tried in turn",
    )
    add("--state-dir", type=Path, default=home.gateway, metavar="DIR", help="last good tables, usage spool, identity")
    add(
        "--metrics",
        type=_address(0),
        metavar="HOST:PORT",
        help="serve Prometheus metrics there; port 0 takes a free one",
    )
    add("--ready-file", type=Path, metavar="FILE", help="written once requests are accepted")
    add("--litellm", choices=("auto", "off"), default="auto", help="models of other providers (default: auto)")
    add("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    return parser


def _address(default_port: int) -> Callable[[str], Address]:
    def parse(text: str) -> Address:
        try:
            return Address.parse(text, default_port)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse


def _addresses(text: str) -> list[Address]:
    return [_address(DEFAULT_COORDINATOR_PORT)(part.strip()) for part in text.split(",") if part.strip()]


def _identity(state_dir: Path) -> str:
    """The gateway's name, made once and kept."""
    file = state_dir / "gateway-id"
    if not file.exists():
        write_atomically(file, uuid.uuid4().hex.encode())
    return file.read_text(encoding="ascii").strip()


async def _run(settings: Settings, sock: socket.socket) -> None:
    gateway_id = _identity(settings.state_dir)
    metrics = Metrics(REGISTRY)
    in_force = InForce(metrics)
    last_good = LastGood(settings.state_dir)
    last_good.load_into(in_force)
    reporter = UsageReporter(Link(settings.coordinators), Spool(settings.state_dir / "usage"), gateway_id, metrics)
    lane = LiteLlmLane(settings.limits, enabled=settings.litellm)
    watch = RouteWatch(
        Link(settings.coordinators), in_force, last_good, gateway_id, version("vllm-studio"), on_providers=lane.want
    )

    async def announce() -> None:
        address = Address(settings.listen.host, sock.getsockname()[1])
        metrics_address = serve_metrics(settings.metrics) if settings.metrics else None
        fields = {"address": str(address), "metrics": str(metrics_address or "")}
        log.info("gateway_ready", gateway=gateway_id, **fields)
        await asyncio.to_thread(announce_ready, settings.ready_file, **fields)

    async with Forwarder(in_force, metrics, settings.limits) as forwarder, asyncio.TaskGroup() as tasks:
        gateway = Gateway(in_force, forwarder, lane, reporter.add, metrics, settings.limits)
        # Requests end before the group does: their usage is in the reporter's last batch.
        for part in (reporter, watch, lane):
            tasks.create_task(part.run())
        await serve(gateway, sock, announce)


if __name__ == "__main__":
    main()
