"""A coordinator with TLS in this process: real ports, real handshakes, on the test's database."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import grpc
from fakes.sealed import SEALER
from studio.v1.access_service_pb2 import CreateJoinTokenRequest, CreateJoinTokenResponse
from studio.v1.access_service_pb2_grpc import AccessServiceStub
from studio.v1.agent_service_pb2 import Hello
from studio.v1.identity_service_pb2 import Identity
from studio_coordinator.access.local_token import LocalToken
from studio_coordinator.authority.certificates import Signer
from studio_coordinator.authority.enrolment import Validity
from studio_coordinator.authority.fleet_identity import TlsSettings
from studio_coordinator.authority.mint import Minted, mint
from studio_coordinator.authority.office import AuthorityOffice
from studio_coordinator.coordinator import running_coordinator
from studio_coordinator.identity import Identity as CoordinatorIdentity
from studio_coordinator.plan.snapshot import Timers
from studio_coordinator.store.database import Database
from studio_runtime.channel import open_channel
from studio_runtime.identity.folder import IdentityFolder
from studio_runtime.identity.join import Joining, join
from studio_runtime.identity.renewal import Renewal
from studio_runtime.identity.stored import StoredIdentity
from studio_runtime.settings import Address
from studio_runtime.tls import ClientTls

PATIENT = Timers(heartbeat_interval=60, lease=200)


@dataclass
class TlsCoordinator:
    """Its two ports, and its authority as the test knows it: by the database."""

    address: Address
    admin_address: Address
    office: AuthorityOffice
    token: str

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What proves an operator."""
        return (("authorization", f"Bearer {self.token}"),)

    @asynccontextmanager
    async def operators(self) -> AsyncIterator[grpc.aio.Channel]:
        """To the operators' port, verified by the authorities of now."""
        await self.office.refresh()
        async with open_channel(self.admin_address, ClientTls(self.office.keyring.bundle)) as channel:
            yield channel

    @asynccontextmanager
    async def access(self) -> AsyncIterator[AccessServiceStub]:
        async with self.operators() as channel:
            yield AccessServiceStub(channel)

    async def join_token(
        self, kind: Identity.Kind.ValueType = Identity.KIND_AGENT, name: str = ""
    ) -> CreateJoinTokenResponse:
        async with self.access() as access:
            request = CreateJoinTokenRequest(kind=kind, name=name)
            return await access.CreateJoinToken(request, metadata=self.metadata)

    async def minted(
        self,
        node_id: str,
        kind: Identity.Kind.ValueType = Identity.KIND_AGENT,
        lifetime: timedelta = timedelta(hours=1),
    ) -> Minted:
        return (await mint(self.office, kind, [node_id], lifetime))[0]

    def channel(self, tls: ClientTls | None) -> grpc.aio.Channel:
        """To the nodes' port."""
        return open_channel(self.address, tls)


@asynccontextmanager
async def tls_coordinator(
    database: Database, folder: Path, validity: Validity | None = None, given: Signer | None = None
) -> AsyncIterator[TlsCoordinator]:
    office = AuthorityOffice(database, SEALER, given)
    await office.open()
    free = Address("127.0.0.1", 0)
    token = LocalToken.load(folder)
    async with running_coordinator(
        *(database, database, CoordinatorIdentity("coordinator-1", b"pepper", SEALER), free, PATIENT, 15.0),
        local_token=token,
        tls=TlsSettings(free, ("127.0.0.1", "localhost"), validity or Validity(), given),
    ) as server:
        yield TlsCoordinator(server.address, server.admin_address, office, (folder / "local-token").read_text().strip())


def hello(host: str, host_id: str = "", instance: str = "first") -> Hello:
    return Hello(protocol=1, oldest_protocol=1, host_id=host_id, host_name=host, agent_instance_id=instance)


async def joined(coordinator: TlsCoordinator, folder: Path, name: str = "h1") -> IdentityFolder:
    token = await coordinator.join_token(Identity.KIND_AGENT, name)
    identity = IdentityFolder(folder)
    joining = Joining(Identity.KIND_AGENT, name, [coordinator.admin_address], token.authority_fingerprint)
    await join(identity, joining, token.secret)
    return identity


async def renew(folder: IdentityFolder) -> StoredIdentity | None:
    return await Renewal(folder, lambda _low, high: high).renew_once(folder.load())
