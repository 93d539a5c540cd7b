"""The connected gateways, in memory: the tables that are in force, and what each gateway acknowledged.

A gateway that went away may still route by its last table, so it counts for a while longer with what it acknowledged last.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

from studio.v1.admin_service_pb2 import GatewayStatus
from studio.v1.identity_service_pb2 import AuthoritiesInForce
from studio.v1.route_pb2 import AccessTable, RouteTable
from studio.v1.route_service_pb2 import TableAck, TrafficReport, WatchRoutesResponse

from studio_coordinator.wakeup import Wakeup

# A gateway that restarts is back sooner; one that is gone for good delays a stop by this much, once.
REMEMBERED_SECONDS = 15.0
# Gateways report every second; one that did not for so long may have requests of which nothing is known.
SILENT_SECONDS = 10.0


class GatewaySession:
    """One gateway's open route stream."""

    def __init__(self, gateway_id: str) -> None:
        self.gateway_id = gateway_id
        self.connected_at = datetime.now(UTC)
        self.route_version = -1
        # Of the leader that made the route table which it has in force.
        self.route_term = 0
        self.access_version = -1
        # Of the table that it has, whether or not it is one of ours.
        self.seen_version = 0
        self.gone_since: float | None = None
        # Why the coordinator ended the stream; empty where it did not.
        self.close_reason = ""
        # The newest report, whose counters only grow, and when it came.
        self.traffic = TrafficReport()
        self.traffic_at: float | None = None

    def status(self) -> GatewayStatus:
        """What operators see."""
        status = GatewayStatus(
            gateway_id=self.gateway_id,
            route_version_acked=max(0, self.route_version),
            access_version_acked=max(0, self.access_version),
        )
        status.connected_at.FromDatetime(self.connected_at)
        return status


class GatewayRegistry:
    """The tables in force, and who has them; ``clock`` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.changed = Wakeup()
        self._tables = Wakeup()
        self._routes: RouteTable | None = None
        self._access: AccessTable | None = None
        self._authorities: AuthoritiesInForce | None = None
        self._sessions: dict[str, GatewaySession] = {}

    def publish_routes(self, table: RouteTable) -> None:
        """Put ``table`` in force."""
        if self._routes != table:
            self._routes = table
            self._tables.set()

    def publish_access(self, table: AccessTable) -> None:
        """Put ``table`` in force."""
        if self._access != table:
            self._access = table
            self._tables.set()

    def publish_authorities(self, in_force: AuthoritiesInForce) -> None:
        """Tell every gateway which authorities count."""
        if self._authorities != in_force:
            self._authorities = in_force
            self._tables.set()

    def cut(self, node_id: str, reason: str) -> None:
        """End the streams of a gateway, all its workers' included."""
        for session in self._sessions.values():
            if session.gone_since is None and session.gateway_id.split("/")[0] == node_id:
                session.close_reason = reason
                self.ended(session)
        self._tables.set()

    @property
    def routes(self) -> RouteTable | None:
        """The table in force; None before the first."""
        return self._routes

    def acknowledged_version(self) -> int | None:
        """The lowest route table version that every known gateway has in force; None when none is known.

        A gateway with a table that this database does not know, because it was restored from a backup, has none of ours in force.
        """
        now = self._clock()
        for gateway_id, session in list(self._sessions.items()):
            if session.gone_since is not None and now - session.gone_since > REMEMBERED_SECONDS:
                del self._sessions[gateway_id]
        return min((self._version_in_force(session) for session in self._sessions.values()), default=None)

    def _version_in_force(self, session: GatewaySession) -> int:
        newest = (self._routes.term, self._routes.version) if self._routes is not None else (0, -1)
        return session.route_version if (session.route_term, session.route_version) <= newest else -1

    def newest_seen(self) -> tuple[int, int, int]:
        """The highest term, route version and access version that a known gateway has in force."""
        sessions = list(self._sessions.values())
        return (
            max((session.route_term for session in sessions), default=0),
            max((session.seen_version for session in sessions), default=0),
            max((session.access_version for session in sessions), default=0),
        )

    def opened(self, gateway_id: str) -> GatewaySession:
        """Count a gateway in. It has nothing in force until it says so."""
        session = self._sessions[gateway_id] = GatewaySession(gateway_id)
        self.changed.set()
        return session

    def ended(self, session: GatewaySession) -> None:
        """Remember when a gateway went."""
        session.gone_since = self._clock()
        self.changed.set()

    def acknowledged(self, session: GatewaySession, ack: TableAck) -> None:
        """Note what a gateway has in force."""
        # Under the same number it may hold another table, of the time before a backup was restored.
        session.route_version = -1 if ack.refusal else ack.route_version
        session.route_term, session.seen_version = ack.term, ack.route_version
        session.access_version = ack.access_version
        self.changed.set()

    def reported(self, session: GatewaySession, report: TrafficReport) -> None:
        """Take what a gateway says of its requests. The loop is woken where somebody waits who did not before."""
        before = {item.model for item in session.traffic.models if item.held}
        session.traffic, session.traffic_at = report, self._clock()
        if any(item.held and item.model not in before for item in report.models):
            self.changed.set()

    def traffic(self) -> list[TrafficReport]:
        """The newest report of every known gateway, of those too that went away a moment ago."""
        return [session.traffic for session in self._sessions.values()]

    def heard(self) -> list[tuple[TrafficReport, float]]:
        """The same reports, each with how many seconds ago it came."""
        now = self._clock()
        return [
            (session.traffic, now - session.traffic_at)
            for session in self._sessions.values()
            if session.traffic_at is not None
        ]

    def traffic_is_whole(self) -> bool:
        """Whether all there is to know is in the reports: there are gateways, and none of them is away or silent."""
        now = self._clock()
        sessions = self._sessions.values()
        return bool(sessions) and all(
            session.gone_since is None and session.traffic_at is not None and now - session.traffic_at <= SILENT_SECONDS
            for session in sessions
        )

    def statuses(self) -> list[GatewayStatus]:
        """The connected gateways."""
        return [session.status() for session in self._sessions.values() if session.gone_since is None]

    async def tables(self, session: GatewaySession) -> AsyncIterator[WatchRoutesResponse]:
        """Send each table as it comes into force; one that was overtaken meanwhile is left out."""
        routes: RouteTable | None = None
        access: AccessTable | None = None
        authorities: AuthoritiesInForce | None = None
        while session.gone_since is None:
            ticket: asyncio.Event = self._tables.ticket()
            if self._access is not None and self._access != access:
                access = self._access
                yield WatchRoutesResponse(access=access)
            elif self._routes is not None and self._routes != routes:
                routes = self._routes
                yield WatchRoutesResponse(routes=routes)
            elif self._authorities is not None and self._authorities != authorities:
                authorities = self._authorities
                yield WatchRoutesResponse(authorities=authorities)
            else:
                await ticket.wait()
