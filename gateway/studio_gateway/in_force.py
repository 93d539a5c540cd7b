"""The tables in force: one reference that requests read and the stream of tables replaces."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from studio.v1.route_pb2 import AccessTable, RouteTable

from studio_gateway.account import Metrics
from studio_gateway.keys import KeyRing
from studio_gateway.pick import Picker
from studio_gateway.standing import Standings
from studio_gateway.table import Routes


@dataclass
class InForce:
    """Routes and keys, each None until the first table; a request reads each of them once and keeps what it read."""

    metrics: Metrics
    routes: Routes | None = None
    keys: KeyRing | None = None
    # As they came, for comparing and keeping.
    route_table: RouteTable | None = None
    access_table: AccessTable | None = None

    def __post_init__(self) -> None:
        self.standings = Standings()
        self.picker = Picker(self.standings)
        # Called after each table of routes that comes into force.
        self.on_routes: list[Callable[[Routes], None]] = []

    def put_routes(self, table: RouteTable) -> None:
        """Put ``table`` in force; raises UnsoundTableError and changes nothing where it contradicts itself.

        Requests on an endpoint that it does not have any more go on.
        """
        routes = Routes.of(table)
        self.routes, self.route_table = routes, table
        self.standings.put_routes(routes.replica_ids, time.monotonic())
        self.metrics.route_version.set(table.version)
        for look in self.on_routes:
            look(routes)

    def put_access(self, table: AccessTable) -> None:
        """Put ``table`` in force."""
        self.keys, self.access_table = KeyRing.of(table), table
        self.metrics.access_version.set(table.version)
