"""A coordinator that a test steers: it sends the tables it is given, and keeps acknowledgements and usage.

In a test's own process: ``async with RouteServer() as server``. As a process that can be killed: ``python route_service.py PORT
ROUTES ACCESS USAGE``, with the two tables in files and usage appended to a third as lines of JSON.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

import grpc
from google.protobuf.json_format import MessageToJson
from studio.v1.route_pb2 import AccessTable, RouteTable, UsageRecord
from studio.v1.route_service_pb2 import (
    GatewayHello,
    LeaseQuotaRequest,
    LeaseQuotaResponse,
    QuotaGrant,
    ReportUsageRequest,
    ReportUsageResponse,
    TableAck,
    TrafficReport,
    WatchRoutesRequest,
    WatchRoutesResponse,
)
from studio.v1.route_service_pb2_grpc import RouteServiceServicer, add_RouteServiceServicer_to_server
from studio_runtime.channel import make_server

Table = RouteTable | AccessTable


class RouteServer(RouteServiceServicer):
    """Real gRPC on a loopback port; ``port`` 0 takes a free one."""

    def __init__(self, *tables: Table, port: int = 0, usage_file: Path | None = None) -> None:
        self.tables: list[Table] = list(tables)
        self.hellos: list[GatewayHello] = []
        self.acks: list[TableAck] = []
        self.traffic: list[TrafficReport] = []
        self.usage: dict[str, UsageRecord] = {}
        self.reports = 0
        # What gateways asked for; each gets what it needs.
        self.leases: list[LeaseQuotaRequest] = []
        # What the next reports are answered with instead.
        self.refusals: list[grpc.StatusCode] = []
        # Cleared, it takes calls and answers none.
        self.answers = asyncio.Event()
        self.answers.set()
        self.changed = asyncio.Condition()
        self.port = port
        self._usage_file = usage_file

    async def __aenter__(self) -> Self:
        self._server = make_server()
        add_RouteServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(None)

    async def wait(self) -> None:
        await self._server.wait_for_termination()

    async def send(self, table: Table) -> None:
        self.tables.append(table)
        await self._notify()

    async def until_acked(self, count: int) -> TableAck:
        async with self.changed, asyncio.timeout(10):
            await self.changed.wait_for(lambda: len(self.acks) >= count)
        return self.acks[count - 1]

    async def until_reported(self, count: int) -> None:
        """As many reports have come, answered or not."""
        async with self.changed, asyncio.timeout(10):
            await self.changed.wait_for(lambda: self.reports >= count)

    async def until_counted(self, count: int) -> None:
        async with self.changed, asyncio.timeout(10):
            await self.changed.wait_for(lambda: len(self.usage) >= count)

    async def WatchRoutes(  # noqa: N802 - the contract's name
        self, request_iterator: AsyncIterator[WatchRoutesRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[WatchRoutesResponse]:
        del context
        first = await anext(aiter(request_iterator))
        self.hellos.append(first.hello)
        reader = asyncio.create_task(self._read(request_iterator))
        try:
            sent = 0
            while True:
                async with self.changed:
                    await self.changed.wait_for(lambda sent=sent: len(self.tables) > sent)
                table = self.tables[sent]
                sent += 1
                yield (
                    WatchRoutesResponse(routes=table)
                    if isinstance(table, RouteTable)
                    else WatchRoutesResponse(access=table)
                )
        finally:
            reader.cancel()

    async def ReportUsage(  # noqa: N802 - the contract's name
        self, request: ReportUsageRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> ReportUsageResponse:
        self.reports += 1
        await self._notify()
        await self.answers.wait()
        if self.refusals:
            await context.abort(self.refusals.pop(0), "as the test wants it")
        for record in request.records:
            self.usage[record.request_id] = record
            if self._usage_file is not None:
                with self._usage_file.open("a", encoding="utf-8") as file:
                    file.write(MessageToJson(record, indent=None) + "\n")
        await self._notify()
        return ReportUsageResponse()

    async def LeaseQuota(  # noqa: N802 - the contract's name
        self, request: LeaseQuotaRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> LeaseQuotaResponse:
        del context
        self.leases.append(request)
        await self._notify()
        await self.answers.wait()
        return LeaseQuotaResponse(
            grants=[
                QuotaGrant(subject=need.subject, amount=need.amount, outage_amount=need.amount)
                for need in request.needs
            ]
        )

    async def until_leased(self, count: int) -> LeaseQuotaRequest:
        async with self.changed, asyncio.timeout(10):
            await self.changed.wait_for(lambda: len(self.leases) >= count)
        return self.leases[count - 1]

    async def _read(self, requests: AsyncIterator[WatchRoutesRequest]) -> None:
        async for request in requests:
            if request.WhichOneof("message") == "traffic":
                self.traffic.append(request.traffic)
            else:
                self.acks.append(request.ack)
            await self._notify()

    async def _notify(self) -> None:
        async with self.changed:
            self.changed.notify_all()


async def _main(port: str, routes: str, access: str, usage: str) -> None:
    tables = RouteTable.FromString(Path(routes).read_bytes()), AccessTable.FromString(Path(access).read_bytes())  # noqa: ASYNC240 - a test's process
    async with RouteServer(*tables, port=int(port), usage_file=Path(usage)) as server:
        await server.wait()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
