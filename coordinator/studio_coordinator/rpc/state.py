"""What the operators' calls share: the store, the leadership, what is connected, and how to wake the loop."""

from dataclasses import dataclass

from studio_coordinator.access.authenticate import Authenticator
from studio_coordinator.authority.fleet_identity import FleetIdentity
from studio_coordinator.gateways import GatewayRegistry
from studio_coordinator.knowledge.snapshots import SnapshotSource
from studio_coordinator.leadership import Leadership
from studio_coordinator.sealing import Sealer
from studio_coordinator.sessions import SessionRegistry
from studio_coordinator.store.database import Database
from studio_coordinator.telemetry.rings import Rings
from studio_coordinator.wakeup import Wakeup


@dataclass
class AdminState:
    """Handed to the AdminService once; it holds nothing of its own."""

    database: Database
    leadership: Leadership
    sessions: SessionRegistry
    gateways: GatewayRegistry
    desired: Wakeup
    # Set after events were stored.
    events_stored: Wakeup
    pepper: bytes
    sealer: Sealer
    authenticator: Authenticator
    # What the leader's loop would look at now.
    snapshots: SnapshotSource
    # What hosts measured by the second.
    rings: Rings
    # None: this coordinator serves without TLS and believes what nodes say, on loopback.
    fleet_identity: FleetIdentity | None = None

    def desired_changed(self) -> None:
        """Wake the loop and whoever watches events."""
        self.desired.set()
        self.events_stored.set()
