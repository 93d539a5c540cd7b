"""A gateway: it puts tables in force in the real order, keeps them over everything, and says what it has."""

from typing import TYPE_CHECKING

from studio.v1.route_pb2 import RouteTable
from studio_gateway.table import refusal_of_routes

if TYPE_CHECKING:
    from sim.story import Story


class SimulatedGateway:
    def __init__(self, story: "Story", number: int) -> None:
        self.story, self.name = story, f"g{number}"
        self.table: RouteTable | None = None
        # Since when it is connected to nobody.
        self.alone_since = 0.0
        self._dialled = 0
        self._refuses = False

    def beat(self) -> None:
        leader = self.story.coordinators[self._dialled % len(self.story.coordinators)]
        if leader.knows_gateway(self.name):
            self._acknowledge(leader)
        elif not leader.leads:
            self._dialled += 1
        else:
            self.story.network.send(self.name, leader.name, lambda: leader.gateway_opened(self))

    def offer(self, leader: object, table: RouteTable) -> None:
        self._refuses = bool(refusal_of_routes(table, self.table))
        if not self._refuses:
            self.table = table
        self._acknowledge(leader)

    def _acknowledge(self, leader: object) -> None:
        has = (self.table.term, self.table.version) if self.table is not None and not self._refuses else (0, -1)
        self.story.network.send(self.name, leader.name, lambda: leader.acknowledged(self.name, has))

    def routes_to(self, replica_id: str) -> bool:
        if self.table is None:
            return False
        return any(end.replica_id == replica_id for route in self.table.routes for end in route.endpoints)
