"""A gateway on the wire: takes tables and acknowledges them, when the test wants it to."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc
from studio.v1.route_pb2 import AccessTable, RouteTable
from studio.v1.route_service_pb2 import (
    EndpointTraffic,
    GatewayHello,
    ModelTraffic,
    TableAck,
    TrafficReport,
    WatchRoutesRequest,
)
from studio.v1.route_service_pb2_grpc import RouteServiceStub


class FakeGateway:
    def __init__(self, channel: grpc.aio.Channel, gateway_id: str) -> None:
        self._call = RouteServiceStub(channel).WatchRoutes()
        self._id = gateway_id
        self.routes = RouteTable()
        # Every route table that came, oldest first.
        self.tables: list[RouteTable] = []
        self.access = AccessTable()
        # False: tables are taken but not acknowledged.
        self.acknowledges = True
        # A call takes one write at a time.
        self._speaking = asyncio.Lock()

    async def run(self) -> None:
        await self._call.write(WatchRoutesRequest(hello=GatewayHello(gateway_id=self._id, protocol=1)))
        async for message in self._call:
            if message.WhichOneof("message") == "routes":
                self.routes = message.routes
                self.tables.append(message.routes)
            else:
                self.access = message.access
            if self.acknowledges:
                await self.acknowledge()

    async def acknowledge(self) -> None:
        self.acknowledges = True
        ack = TableAck(route_version=self.routes.version, access_version=self.access.version)
        await self._say(WatchRoutesRequest(ack=ack))

    async def report(self, *endpoints: EndpointTraffic, models: Sequence[ModelTraffic] = ()) -> None:
        """Tell what it has seen of endpoints and models, since it began."""
        traffic = TrafficReport(gateway_instance_id=self._id, endpoints=endpoints, models=models)
        await self._say(WatchRoutesRequest(traffic=traffic))

    async def _say(self, message: WatchRoutesRequest) -> None:
        async with self._speaking:
            await self._call.write(message)

    def endpoints(self, model: str) -> list[str]:
        return [end.replica_id for route in self.routes.routes if route.model == model for end in route.endpoints]

    def hang_up(self) -> None:
        self._call.cancel()


@asynccontextmanager
async def watching(channel: grpc.aio.Channel, gateway_id: str = "g1") -> AsyncIterator[FakeGateway]:
    gateway = FakeGateway(channel, gateway_id)
    task = asyncio.create_task(gateway.run())
    try:
        yield gateway
    finally:
        gateway.hang_up()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
