"""The coordinator put together: one database, one server, one loop, and the tasks that keep them going."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from studio_runtime.settings import Address
from studio_runtime.watchdog import Watchdog

from studio_coordinator.bookkeeping import Bookkeeping
from studio_coordinator.gateways import GatewayRegistry
from studio_coordinator.identity import Identity
from studio_coordinator.knowledge.activity import ActivityLog
from studio_coordinator.knowledge.library import ModelLibrary, ReadHub
from studio_coordinator.knowledge.measurements import Measurements
from studio_coordinator.knowledge.sizes import SizeBook
from studio_coordinator.knowledge.snapshots import SnapshotSource
from studio_coordinator.leadership import Leadership
from studio_coordinator.loop import LeaderLoop
from studio_coordinator.plan.snapshot import Timers
from studio_coordinator.rpc.server import RunningServer, start_server
from studio_coordinator.rpc.state import AdminState
from studio_coordinator.sessions import SessionRegistry
from studio_coordinator.store.database import Database


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
) -> AsyncIterator[RunningServer]:
    """Serve and plan while the block runs. What ends one of the tasks ends the block with it.

    ``lease_database`` is the leadership's own: a lease must not wait behind other work for a connection. ``read_hub`` reads a
    model of the hub; None: this coordinator asks hosts alone. ``advertise`` is where others reach this coordinator when it leads;
    None: where it listens.
    """
    leadership = Leadership(lease_database, identity.coordinator_id, str(listen), lease_ttl_seconds)
    sessions, gateways = SessionRegistry(), GatewayRegistry()
    library = ModelLibrary(database, leadership, sessions, read_hub)
    measurements = Measurements(database, leadership, sessions)
    sizes = SizeBook(library, measurements)
    snapshots = SnapshotSource(leadership, sessions, gateways, timers, library, sizes, ActivityLog(sessions))
    loop = LeaderLoop(database, leadership, sessions, gateways, identity.pepper, snapshots)
    books = Bookkeeping(database, leadership, loop.sessions, loop.events_stored, timers.heartbeat_interval)
    state = AdminState(
        database=database,
        leadership=leadership,
        sessions=loop.sessions,
        gateways=loop.gateways,
        desired=loop.desired_changed,
        events_stored=loop.events_stored,
        pepper=identity.pepper,
        snapshots=snapshots,
    )
    server = await start_server(listen, state, timers)
    # Before the lease is first asked for: only now is the port known.
    leadership.address = str(advertise or server.address)
    try:
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(task)
                for task in (
                    leadership.keep(),
                    loop.run(),
                    books.store_agent_events(),
                    books.keep_last_seen(),
                    books.store_notes(),
                    books.prune(),
                    library.run(),
                    measurements.run(),
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
