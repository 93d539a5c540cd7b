"""Run the coordinator: ``studio-coordinator serve``."""

import asyncio
import sys
from datetime import timedelta
from pathlib import Path

import structlog
from studio_runtime.errors import StudioError
from studio_runtime.logging import configure_logging
from studio_runtime.metrics import serve_metrics
from studio_runtime.process import announce_ready, lock_folder, run_until_stopped
from studio_runtime.tracing import configure_tracing, flush_tracing

from studio_coordinator.access.local_token import LocalToken
from studio_coordinator.agreement import agree_on_keys
from studio_coordinator.authority.enrolment import Validity
from studio_coordinator.authority.fleet_identity import TlsSettings
from studio_coordinator.authority.keyring import read_signer
from studio_coordinator.collector import freeze_what_is_here
from studio_coordinator.coordinator import running_coordinator
from studio_coordinator.embedded_postgres import exec_postgres, prepare, wait_until_ready
from studio_coordinator.heap import use_one_heap
from studio_coordinator.identity import Identity
from studio_coordinator.knowledge.library import ReadHub
from studio_coordinator.plan.memory.facts import ModelFacts
from studio_coordinator.plan.snapshot import Timers
from studio_coordinator.settings import ServeSettings, parser, serve_settings
from studio_coordinator.store.database import Database
from studio_coordinator.tls_flags import TlsFlags
from studio_coordinator.version import VERSION

log = structlog.get_logger()


async def serve(settings: ServeSettings) -> None:
    """Migrate the database, then serve, lead when the lease is free, and plan, until cancelled."""
    storage = settings.storage
    identity = Identity.load(storage.state_dir, storage.key_pepper_file, storage.master_key_file)
    url = storage.database_url or prepare(storage.embedded_data_dir).url
    database, lease_database = Database(url), Database(url, pool_size=1)
    try:
        schema = await database.upgrade(storage.owner_url)
        await agree_on_keys(database, identity)
        timers = Timers(
            heartbeat_interval=settings.heartbeat_seconds,
            lease=3 * settings.heartbeat_seconds + 10,
            lost_after=settings.lost_after_seconds,
            leader_grace=settings.leader_grace_seconds,
        )
        async with running_coordinator(
            database,
            lease_database,
            identity,
            settings.listen,
            timers,
            settings.lease_ttl_seconds,
            None if settings.hub_offline else hub_reader(settings.storage.state_dir / "models"),
            settings.advertise,
            local_token=LocalToken.load(storage.state_dir) if settings.require_tokens else None,
            tls=None if settings.tls is None else tls_settings(settings.tls, storage.state_dir / "authorities.pem"),
        ) as server:
            metrics = serve_metrics(settings.metrics)
            where = {"address": str(server.address), "admin_address": str(server.admin_address)}
            freeze_what_is_here()
            log.info("coordinator_started", **where, schema=schema, version=VERSION)
            announce_ready(settings.ready_file, **where, metrics=str(metrics), schema=schema)
            await asyncio.Event().wait()
    finally:
        await database.close()
        await lease_database.close()


def tls_settings(flags: TlsFlags, bundle_file: Path) -> TlsSettings:
    """What the flags mean. Raises InvalidError where the given authority cannot be used."""
    given = None
    if flags.ca_cert is not None and flags.ca_key is not None:
        given = read_signer(flags.ca_cert, flags.ca_key)
    validity = Validity(timedelta(seconds=flags.certificate_seconds), timedelta(seconds=flags.renew_grace_seconds))
    return TlsSettings(flags.admin_listen, flags.names, validity, given, bundle_file)


def hub_reader(cache_dir: Path) -> ReadHub:
    """Reads headers of models from the hub that the environment names, and keeps them in ``cache_dir``."""

    def read(model: str, revision: str) -> ModelFacts:
        from studio_coordinator.model_facts.hub import HubReader  # noqa: PLC0415 - half a second that few starts need

        return HubReader(cache_dir).read(model, revision)

    return read


def run_serve(settings: ServeSettings) -> None:
    """Run ``serve`` with the process's logging, tracing and lock around it."""
    use_one_heap()
    configure_logging("coordinator", settings.log_level)
    configure_tracing("studio-coordinator")
    try:
        lock = lock_folder(settings.storage.state_dir)
    except BlockingIOError as error:
        sys.exit(
            f"another coordinator (pid {error.filename}) uses {settings.storage.state_dir}; stop it, or choose --state-dir"
        )
    with lock:
        try:
            run_until_stopped(lambda: serve(settings))
        except* StudioError as group:
            for refusal in _leaves(group):
                log.critical("coordinator_failed", reason=refusal.reason, message=refusal.message, hint=refusal.hint)
            sys.exit(1)
        finally:
            flush_tracing()


def _leaves(group: BaseExceptionGroup[StudioError]) -> list[StudioError]:
    """The refusals inside nested groups."""
    leaves: list[StudioError] = []
    for inner in group.exceptions:
        leaves.extend(_leaves(inner) if isinstance(inner, BaseExceptionGroup) else [inner])
    return leaves


def main() -> None:
    """Entry point."""
    if sys.argv[1:2] == ["estimate"]:
        from studio_coordinator.estimate_command import main as estimate  # noqa: PLC0415 - needs nothing of a server

        sys.exit(estimate(sys.argv[2:]))
    arguments = parser().parse_args()
    if arguments.command == "serve":
        try:
            settings = serve_settings(arguments)
        except StudioError as error:
            sys.exit(f"{error.message}\n{error.hint}")
        run_serve(settings)
    elif arguments.command == "operator-create":
        from studio_coordinator.operator_command import run  # noqa: PLC0415 - needs nothing of a server

        run(arguments)
    elif arguments.command == "postgres":
        try:
            (wait_until_ready if arguments.until_ready else exec_postgres)(arguments.data_dir)
        except StudioError as error:
            sys.exit(f"{error.message}\n{error.hint}")
    else:
        from studio_coordinator.migrations_check import check  # noqa: PLC0415 - needs a database of its own

        check()


if __name__ == "__main__":
    main()
