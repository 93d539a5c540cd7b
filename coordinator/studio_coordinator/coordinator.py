"""The coordinator put together: one database, one server, one loop, and the tasks that keep them going."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from studio_runtime.settings import Address
from studio_runtime.watchdog import Watchdog

from studio_coordinator.access.authenticate import Authenticator
from studio_coordinator.access.local_token import LocalToken
from studio_coordinator.authority.fleet_identity import FleetIdentity, TlsSettings
from studio_coordinator.bookkeeping import Bookkeeping
from studio_coordinator.collector import Collector
from studio_coordinator.fleet_metrics import FleetMetrics
from studio_coordinator.gateways import GatewayRegistry
from studio_coordinator.identity import Identity
from studio_coordinator.knowledge.activity import ActivityLog
from studio_coordinator.knowledge.library import ModelLibrary, ReadHub
from studio_coordinator.knowledge.measurements import Measurements
from studio_coordinator.knowledge.sizes import SizeBook
from studio_coordinator.knowledge.snapshots import SnapshotSource
from studio_coordinator.leadership import Leadership
from studio_coordinator.ledger.postgres import PostgresLedger
from studio_coordinator.loop import LeaderLoop
from studio_coordinator.plan.snapshot import Timers
from studio_coordinator.rpc.server import RunningServer, start_server
from studio_coordinator.rpc.state import AdminState
from studio_coordinator.sessions import SessionRegistry
from studio_coordinator.store.database import Database
from studio_coordinator.telemetry.lag import watch_lag
from studio_coordinator.telemetry.otlp import exporting
from studio_coordinator.telemetry.prometheus import Exported
from studio_coordinator.telemetry.recorder import Recorder
from studio_coordinator.telemetry.rings import Rings


@asynccontextmanager
async def running_coordinator(
    database: Database,
    lease_database: Database,
    identity: Identity,
    listen: Address,
    timers: Timers,
    lease_ttl_seconds: float,
    read_hub: ReadHub | None = None,
    advertise: Address | None = None,
    *,
    local_token: LocalToken | None = None,
    tls: TlsSettings | None = None,
) -> AsyncIterator[RunningServer]:
    """Serve and plan while the block runs. What ends one of the tasks ends the block with it.

    ``lease_database`` is the leadership's own: a lease must not wait behind other work for a connection. ``read_hub`` reads a
    model of the hub; None: this coordinator asks hosts alone. ``advertise`` is where others reach this coordinator when it leads;
    None: where it listens. ``local_token`` may do anything, and every other call needs a token or a certificate; None: whoever
    reaches the listener may do anything. ``tls``: None serves everything on ``listen`` in clear text.
    """
    leadership = Leadership(lease_database, identity.coordinator_id, str(listen), lease_ttl_seconds)
    sessions, gateways = SessionRegistry(), GatewayRegistry()
    library = ModelLibrary(database, leadership, sessions, read_hub)
    measurements = Measurements(database, leadership, sessions)
    sizes = SizeBook(library, measurements)
    snapshots = SnapshotSource(leadership, sessions, gateways, timers, library, sizes, ActivityLog(sessions))
    metrics = FleetMetrics(database, leadership, tls.validity.lifetime if tls is not None else None)
    ledger = PostgresLedger(database, sessions, snapshots, identity.pepper)
    loop = LeaderLoop(ledger, sessions, gateways, metrics.show)
    books = Bookkeeping(database, leadership, loop.sessions, loop.events_stored, timers.heartbeat_interval)
    rings = Rings()
    recorder = Recorder(database, leadership, rings)
    fleet_identity = None
    if tls is not None:
        fleet_identity = await FleetIdentity.open(database, identity, tls, sessions, gateways)
    state = AdminState(
        database=database,
        leadership=leadership,
        sessions=loop.sessions,
        gateways=loop.gateways,
        desired=loop.desired_changed,
        events_stored=loop.events_stored,
        pepper=identity.pepper,
        sealer=identity.sealer,
        authenticator=Authenticator(
            database,
            identity.pepper,
            local_token,
            fleet_identity.enrolment.admit if fleet_identity is not None else None,
        ),
        snapshots=snapshots,
        rings=rings,
        fleet_identity=fleet_identity,
    )
    server = await start_server(listen, state, timers)
    # Before the lease is first asked for: only now is the port known.
    leadership.address = str(advertise or server.address)
    try:
        with Exported(sessions.reports), exporting(sessions.reports):
            async with asyncio.TaskGroup() as tasks:
                running = [
                    tasks.create_task(task)
                    for task in (
                        leadership.keep(),
                        loop.run(leadership),
                        books.store_agent_events(),
                        books.keep_last_seen(),
                        books.store_notes(),
                        books.prune(),
                        library.run(),
                        measurements.run(),
                        snapshots.demand.keep(database, leadership),
                        recorder.run(),
                        metrics.watch_budgets(),
                        metrics.watch_certificates(),
                        watch_lag(),
                        Collector(sessions).run(),
                        *(() if fleet_identity is None else fleet_identity.tasks()),
                        Watchdog().keep_beating(),
                    )
                ]
                # Whoever is told that it serves may write at once.
                await leadership.decided.wait()
                yield server
                for task in running:
                    task.cancel()
    finally:
        await server.stop()
        await leadership.release()
