"""A gateway: it puts tables in force in the real order, keeps them over everything, holds requests, and says what it has."""

from collections import Counter
from typing import TYPE_CHECKING

from studio.v1.route_pb2 import Route, RouteTable
from studio.v1.route_service_pb2 import ModelTraffic, TableAck, TrafficReport
from studio_coordinator.gateways import GatewaySession
from studio_gateway.table import refusal_of_routes

from sim.network import Stream

if TYPE_CHECKING:
    from sim.leader import SimulatedCoordinator
    from sim.story import Story

HELD_SECONDS = 60.0


class SimulatedGateway:
    def __init__(self, story: "Story", number: int) -> None:
        self.story, self.name = story, f"g{number}"
        self.table: RouteTable | None = None
        # Since when it is connected to nobody.
        self.alone_since = 0.0
        # By model: all requests so far, and until when each is held that waits.
        self.requests: Counter[str] = Counter()
        self.held: dict[str, list[float]] = {}
        self._dialled = 0
        # To whom, over what, and what is open there.
        self._session: tuple[SimulatedCoordinator, Stream, GatewaySession] | None = None

    # -- the stream ----------------------------------------------------------------------------------------------

    def beat(self) -> None:
        """Dial where there is no stream, else say what requests came."""
        if self._session is not None:
            leader, stream, session = self._session
            if stream.is_open and leader.answers:
                report = self._report()
                stream.send(leader.name, lambda: leader.receive(lambda life: life.reception.traffic(session, report)))
                return
        self._session = None
        leader = self.story.coordinators[self._dialled % len(self.story.coordinators)]
        if not leader.leads:
            self._dialled += 1
            return
        self.story.network.call(
            self.name, leader.name, lambda: leader.receive(lambda life: life.reception.open_routes(self))
        )

    def connected(self, leader: "SimulatedCoordinator", stream: Stream, session: GatewaySession) -> None:
        self._session = leader, stream, session

    def offer(self, stream: Stream, table: RouteTable) -> None:
        refusal = refusal_of_routes(table, self.table)
        if not refusal:
            self.table = table
            for route in table.routes:
                if route.endpoints:
                    self.held.pop(route.model, None)
        if self._session is None or self._session[1] is not stream:
            return
        leader, _, session = self._session
        ack = TableAck(refusal=refusal)
        if self.table is not None:
            ack.term, ack.route_version = self.table.term, self.table.version
        stream.send(leader.name, lambda: leader.receive(lambda life: life.reception.acknowledgement(session, ack)))

    def _report(self) -> TrafficReport:
        now = self.story.schedule.now
        report = TrafficReport(gateway_instance_id=self.name)
        for model, requests in self.requests.items():
            self.held[model] = [until for until in self.held.get(model, []) if until > now]
            report.models.append(ModelTraffic(model=model, requests=requests, held=len(self.held[model])))
        return report

    # -- requests ------------------------------------------------------------------------------------------------

    def ask(self, model: str) -> None:
        """A request comes: it is answered at once, held until the model is awake, or refused."""
        route = self.route(model)
        if route is None:
            return
        self.requests[model] += 1
        if route.wakeable and not route.endpoints:
            self.held.setdefault(model, []).append(self.story.schedule.now + HELD_SECONDS)

    def route(self, model: str) -> Route | None:
        routes = self.table.routes if self.table is not None else ()
        return next((route for route in routes if route.model == model), None)

    def routes_to(self, replica_id: str) -> bool:
        if self.table is None:
            return False
        return any(end.replica_id == replica_id for route in self.table.routes for end in route.endpoints)
