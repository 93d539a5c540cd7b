"""Operators of a coordinator that asks for tokens, each with a connection of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
from fakes.sealed import SEALER
from studio.v1.access_service_pb2 import CreateOperatorRequest, Operator
from studio.v1.access_service_pb2_grpc import AccessServiceStub
from studio.v1.admin_service_pb2 import PutTenantRequest
from studio.v1.admin_service_pb2_grpc import AdminServiceStub
from studio.v1.route_pb2 import Tenant
from studio_coordinator.access.local_token import LocalToken
from studio_coordinator.coordinator import running_coordinator
from studio_coordinator.identity import Identity
from studio_coordinator.plan.snapshot import Timers
from studio_coordinator.store.database import Database
from studio_coordinator.tokens import Token
from studio_runtime.channel import open_channel
from studio_runtime.settings import Address

LOCAL = Token.new("vsl").text


@dataclass
class As:
    """Calls with one token; "" is without any."""

    channel: grpc.aio.Channel
    token: str
    more: tuple[tuple[str, str], ...] = ()

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return ((("authorization", f"Bearer {self.token}"),) if self.token else ()) + self.more

    async def admin(self, method: str, request: Any) -> Any:
        return await self._call(AdminServiceStub(self.channel), method, request)

    async def access(self, method: str, request: Any) -> Any:
        return await self._call(AccessServiceStub(self.channel), method, request)

    async def _call(self, stub: Any, method: str, request: Any) -> Any:
        call = getattr(stub, method)(request, metadata=self.metadata, timeout=20)
        if hasattr(call, "__aiter__"):
            return [response async for response in call]
        return await call


@dataclass
class Guarded:
    """The coordinator, and whoever calls it."""

    address: Address
    channel: grpc.aio.Channel
    made: dict[str, As] = field(default_factory=dict)

    @property
    def local(self) -> As:
        return As(self.channel, LOCAL, (("studio-actor", "tester"),))

    async def operator(self, role: str, tenant: str = "") -> As:
        """An operator, made at the first mention."""
        name = f"{tenant or 'fleet'}-{role}"
        if name not in self.made:
            if tenant:
                # It may be there already.
                with suppress(grpc.aio.AioRpcError):
                    await self.local.admin("PutTenant", PutTenantRequest(tenant=Tenant(name=tenant)))
            request = CreateOperatorRequest(name=name, role=Operator.Role.Value(f"ROLE_{role.upper()}"), tenant=tenant)
            answer = await self.local.access("CreateOperator", request)
            self.made[name] = As(self.channel, answer.token)
        return self.made[name]


@asynccontextmanager
async def guarded_coordinator(database: Database) -> AsyncIterator[Guarded]:
    """A coordinator that asks for tokens."""
    identity = Identity("coordinator-1", b"pepper", SEALER)
    patient = Timers(heartbeat_interval=60, lease=200)
    async with running_coordinator(
        database, database, identity, Address("127.0.0.1", 0), patient, 15.0, local_token=LocalToken(LOCAL)
    ) as server:
        channel = open_channel(server.address)
        try:
            yield Guarded(server.address, channel)
        finally:
            await channel.close()
