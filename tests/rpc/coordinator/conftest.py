"""A whole coordinator in this process, on a real PostgreSQL and a real port."""

from collections.abc import AsyncIterator

import grpc
import pytest
from fakes.postgres import database, database_url, postgres
from fakes.sealed import SEALER
from studio.v1.admin_service_pb2_grpc import AdminServiceStub
from studio_coordinator.coordinator import running_coordinator
from studio_coordinator.identity import Identity
from studio_coordinator.plan.snapshot import Timers
from studio_coordinator.store.database import Database
from studio_runtime.channel import open_channel
from studio_runtime.settings import Address

__all__ = ["database", "database_url", "postgres"]

# Heartbeats are not the subject here: a host that said one is there for the whole test.
PATIENT = Timers(heartbeat_interval=60, lease=200)


@pytest.fixture
def timers() -> Timers:
    return PATIENT


@pytest.fixture
async def address(database: Database, timers: Timers) -> AsyncIterator[Address]:
    identity = Identity("coordinator-1", b"pepper", SEALER)
    async with running_coordinator(database, database, identity, Address("127.0.0.1", 0), timers, 15.0) as server:
        yield server.address


@pytest.fixture
async def channel(address: Address) -> AsyncIterator[grpc.aio.Channel]:
    opened = open_channel(address)
    yield opened
    await opened.close()


@pytest.fixture
def admin(channel: grpc.aio.Channel) -> AdminServiceStub:
    return AdminServiceStub(channel)
