"""The parts of this package put together, for a coordinator that serves with TLS."""

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from studio_runtime.process import write_atomically
from studio_runtime.settings import Address

from studio_coordinator.authority.certificates import Signer
from studio_coordinator.authority.enrolment import Enrolment, Validity
from studio_coordinator.authority.nodes import NodeStreams
from studio_coordinator.authority.office import AuthorityOffice
from studio_coordinator.authority.server_tls import ServerTls
from studio_coordinator.gateways import GatewayRegistry
from studio_coordinator.identity import Identity
from studio_coordinator.sessions import SessionRegistry
from studio_coordinator.store.database import Database

log = structlog.get_logger()


@dataclass(frozen=True)
class TlsSettings:
    """How a coordinator serves with TLS."""

    # For operators, and for nodes that join or renew: asks for no certificates.
    admin_listen: Address
    # Names and IP addresses that it is dialled as.
    names: tuple[str, ...]
    validity: Validity
    # An operator's authority; None: one of our own.
    given: Signer | None = None
    # Where the trusted authorities are written (PEM), for commands on this machine; None: nowhere.
    bundle_file: Path | None = None


@dataclass
class FleetIdentity:
    """Who nodes are, and who says so."""

    settings: TlsSettings
    enrolment: Enrolment
    streams: NodeStreams
    server_tls: ServerTls

    @classmethod
    async def open(
        cls,
        database: Database,
        identity: Identity,
        settings: TlsSettings,
        sessions: SessionRegistry,
        gateways: GatewayRegistry,
    ) -> "FleetIdentity":
        """Make the first authority where there is none, and know all. Raises StudioError."""
        office = AuthorityOffice(database, identity.sealer, settings.given)
        await office.open()
        return cls(
            settings,
            Enrolment(database, office, identity.pepper, settings.validity),
            NodeStreams(database, office, sessions, gateways),
            ServerTls(office, settings.names, settings.validity.lifetime),
        )

    def tasks(self) -> Iterator[Coroutine[Any, Any, None]]:
        """What runs for as long as the coordinator serves."""
        yield self.enrolment.office.run()
        yield self.streams.run()
        yield self.server_tls.run()
        yield self._keep_bundle()

    async def _keep_bundle(self) -> None:
        """Write the trusted authorities to their file whenever they change, until cancelled."""
        office, file = self.enrolment.office, self.settings.bundle_file
        while file is not None:
            ticket = office.changed.ticket()
            try:
                # No secret: what it holds is shown to everybody who connects.
                await asyncio.to_thread(write_atomically, file, office.keyring.bundle, 0o644)
            except OSError as error:
                log.warning("authorities_not_written", file=str(file), error=str(error))
            await ticket.wait()
