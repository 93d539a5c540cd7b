"""What the open streams of nodes hear of authorities and identities: who counts now, and that a refused one is cut off."""

from dataclasses import dataclass

import structlog
from studio_runtime.errors import StudioError

from studio_coordinator.authority.office import AuthorityOffice
from studio_coordinator.gateways import GatewayRegistry
from studio_coordinator.sessions import SessionRegistry
from studio_coordinator.store import identities
from studio_coordinator.store.database import Database
from studio_coordinator.wakeup import wait_for

log = structlog.get_logger()

POLL_SECONDS = 2.0


@dataclass
class NodeStreams:
    """Level-triggered, like the leader's loop: what another coordinator has revoked is cut off here as well."""

    database: Database
    office: AuthorityOffice
    sessions: SessionRegistry
    gateways: GatewayRegistry

    async def run(self) -> None:
        """Look every few seconds and at every change of authorities, until cancelled."""
        while True:
            ticket = self.office.changed.ticket()
            try:
                self._tell()
                async with self.database.transaction() as conn:
                    refused = await identities.list_refused(conn)
            except StudioError as error:
                log.warning("refused_identities_not_read", reason=error.message)
            else:
                for node_id, reason in refused.items():
                    self.cut(node_id, reason)
            await wait_for(ticket, POLL_SECONDS)

    def cut(self, node_id: str, reason: str) -> None:
        """End the streams of a node that is refused; it may dial again, and hears why it is turned away."""
        self.sessions.cut(node_id, f"this identity is refused: {reason}")
        self.gateways.cut(node_id, f"this identity is refused: {reason}")

    def _tell(self) -> None:
        in_force = self.office.keyring.in_force()
        for session in self.sessions.all():
            session.tell_authorities(in_force)
        self.gateways.publish_authorities(in_force)
