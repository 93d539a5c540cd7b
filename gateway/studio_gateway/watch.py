"""The stream of tables: hello, tables down, acknowledgements up; reconnecting for as long as the process lives.

A table is in force before it is acknowledged, and on disk soon after. A coordinator that dies changes nothing in force.
"""

import asyncio
import random
from collections.abc import Callable

import grpc
import structlog
from studio.v1.identity_service_pb2 import AuthoritiesInForce
from studio.v1.route_pb2 import AccessTable, RouteTable
from studio.v1.route_service_pb2 import GatewayHello, TableAck, WatchRoutesRequest, WatchRoutesResponse

from studio_gateway.in_force import InForce
from studio_gateway.last_good import LastGood
from studio_gateway.link import Link
from studio_gateway.table import UnsoundTableError, refusal_of_access, refusal_of_routes
from studio_gateway.traffic import Traffic
from studio_gateway.voice import Voice

log = structlog.get_logger()

PROTOCOL = 1
# For what is being said when the stream ends.
LAST_WORD_SECONDS = 2.0
FIRST_BACKOFF_SECONDS = 0.25
LONGEST_BACKOFF_SECONDS = 2.0


class RouteWatch:
    """Keeps ``in_force`` in step with the coordinator."""

    def __init__(
        self,
        link: Link,
        in_force: InForce,
        last_good: LastGood,
        gateway_id: str,
        version: str,
        traffic: Traffic,
        on_authorities: Callable[[AuthoritiesInForce], None] = lambda _in_force: None,
    ) -> None:
        self._link = link
        self._in_force = in_force
        self._last_good = last_good
        self._gateway_id = gateway_id
        self._version = version
        self._traffic = traffic
        self._on_authorities = on_authorities
        self._failures = 0
        # The stream is open and has brought a table.
        self.is_connected = False

    async def run(self) -> None:
        """Follow one coordinator after the other, until cancelled."""
        try:
            while True:
                try:
                    await self._follow()
                    reason = "the coordinator ended the stream"
                except grpc.aio.AioRpcError as error:
                    reason = error.details() or error.code().name
                self.is_connected = False
                self._in_force.metrics.connected.set(0)
                # Once is news; that it is still so is not.
                say = log.debug if self._failures else log.warning
                say("coordinator_away", coordinator=str(self._link.address), reason=reason)
                await self._link.turn()
                longest = min(FIRST_BACKOFF_SECONDS * 2.0**self._failures, LONGEST_BACKOFF_SECONDS)
                self._failures = min(self._failures + 1, 10)
                # Full jitter: a fleet of gateways does not come back in step.
                await asyncio.sleep(random.uniform(0, longest))  # noqa: S311 - spreads load, hides nothing
        finally:
            await self._link.close()

    async def _follow(self) -> None:
        """One stream, until it ends."""
        stream = self._link.service().WatchRoutes(metadata=self._link.metadata())
        voice = Voice(stream.write, self._traffic, lambda name: self._in_force.standings.of(name).in_flight)
        voice.say(WatchRoutesRequest(hello=self._hello()))
        # Never cancelled in the middle of a write: that would end the call.
        speaking = asyncio.create_task(voice.run())
        try:
            while isinstance(response := await stream.read(), WatchRoutesResponse):
                self._failures = 0
                self.is_connected = True
                self._in_force.metrics.connected.set(1)
                changed, refusal = self._put(response)
                voice.say(WatchRoutesRequest(ack=self._ack(refusal)))
                if changed is not None:
                    await self._keep(changed)
        finally:
            voice.end()
            _, unsaid = await asyncio.wait([speaking], timeout=LAST_WORD_SECONDS)
            if unsaid:
                # A write into a connection that is stuck ends with the call only.
                stream.cancel()
                await asyncio.wait([speaking])

    def _hello(self) -> GatewayHello:
        routes, access = self._in_force.route_table, self._in_force.access_table
        return GatewayHello(
            gateway_id=self._gateway_id,
            version=self._version,
            route_version=routes.version if routes else 0,
            access_version=access.version if access else 0,
            term=routes.term if routes else 0,
            protocol=PROTOCOL,
            gateway_instance_id=self._traffic.instance_id,
        )

    def _ack(self, refusal: str) -> TableAck:
        hello = self._hello()
        return TableAck(
            route_version=hello.route_version, access_version=hello.access_version, term=hello.term, refusal=refusal
        )

    def _put(self, response: WatchRoutesResponse) -> tuple[RouteTable | AccessTable | None, str]:
        """Put a table in force; returns it where something changed, and why not where it was refused."""
        if response.WhichOneof("message") == "access":
            return self._put_access(response.access)
        if response.WhichOneof("message") == "authorities":
            self._on_authorities(response.authorities)
        if response.WhichOneof("message") == "routes":
            return self._put_routes(response.routes)
        return None, ""

    def _put_routes(self, table: RouteTable) -> tuple[RouteTable | None, str]:
        refusal = refusal_of_routes(table, self._in_force.route_table)
        if not refusal and table != self._in_force.route_table:
            try:
                self._in_force.put_routes(table)
            except UnsoundTableError as error:
                refusal = f"route table {table.version} contradicts itself: {error}"
            else:
                log.info("routes_in_force", version=table.version, term=table.term, models=len(table.routes))
                return table, ""
        self._note(refusal)
        return None, refusal

    def _put_access(self, table: AccessTable) -> tuple[AccessTable | None, str]:
        refusal = refusal_of_access(table, self._in_force.access_table)
        if not refusal and table != self._in_force.access_table:
            self._in_force.put_access(table)
            log.info("keys_in_force", version=table.version, keys=len(table.keys))
            return table, ""
        self._note(refusal)
        return None, refusal

    def _note(self, refusal: str) -> None:
        if refusal:
            self._in_force.metrics.refused_tables.inc()
            log.error("table_refused", reason=refusal)

    async def _keep(self, table: RouteTable | AccessTable) -> None:
        try:
            await asyncio.to_thread(self._last_good.save, table)
        except OSError as error:
            log.exception("last_good_copy_not_written", error=str(error))
