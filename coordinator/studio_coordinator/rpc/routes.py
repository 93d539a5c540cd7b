"""RouteService: tables to the gateways, acknowledgements and usage back."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import grpc
import structlog
from studio.v1.identity_service_pb2 import Identity
from studio.v1.route_service_pb2 import (
    GetProviderSecretsRequest,
    GetProviderSecretsResponse,
    LeaseQuotaRequest,
    LeaseQuotaResponse,
    ReportUsageRequest,
    ReportUsageResponse,
    WatchRoutesRequest,
    WatchRoutesResponse,
)
from studio.v1.route_service_pb2_grpc import RouteServiceServicer
from studio_runtime.errors import DeniedError, InvalidError, StudioError

from studio_coordinator.gateways import GatewayRegistry, GatewaySession
from studio_coordinator.leadership import Leadership
from studio_coordinator.rpc import quota
from studio_coordinator.rpc.guard import guarded, refuse
from studio_coordinator.rpc.node_secrets import secrets_for_gateway
from studio_coordinator.rpc.peer import Context, NodeGate, require_id
from studio_coordinator.sealing import Sealer
from studio_coordinator.store import lease, usage
from studio_coordinator.store.database import Database

log = structlog.get_logger()

MOST_RECORDS = 2000


class RouteService(RouteServiceServicer):
    """The gateways' side of the coordinator."""

    def __init__(
        self,
        database: Database,
        leadership: Leadership,
        gateways: GatewayRegistry,
        sealer: Sealer,
        gate: NodeGate | None = None,
    ) -> None:
        self._sealer = sealer
        # None: without TLS a gateway is whom it says it is.
        self._gate = gate
        self._database = database
        self._leadership = leadership
        self._gateways = gateways

    async def WatchRoutes(  # noqa: N802 - the contract's name
        self, request_iterator: AsyncIterator[WatchRoutesRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[WatchRoutesResponse]:
        """Send every table that comes into force; note what the gateway acknowledges."""
        try:
            self._leadership.require()
            first = await anext(aiter(request_iterator), None)
            if first is None or first.WhichOneof("message") != "hello" or not first.hello.gateway_id:
                raise InvalidError("the first message of a route stream must be GatewayHello, with a gateway id")
            await self._identify(first.hello.gateway_id, context)
        except StudioError as error:
            await refuse(context, error)
        session = self._gateways.opened(first.hello.gateway_id)
        log.info("gateway_connected", gateway=session.gateway_id)
        reader = asyncio.ensure_future(self._read(session, request_iterator))
        try:
            async for message in self._gateways.tables(session):
                yield message
            if session.close_reason:
                await refuse(context, DeniedError(session.close_reason))
        finally:
            reader.cancel()
            self._gateways.ended(session)
            log.info("gateway_disconnected", gateway=session.gateway_id)

    async def _read(self, session: GatewaySession, requests: AsyncIterator[WatchRoutesRequest]) -> None:
        async for request in requests:
            kind = request.WhichOneof("message")
            if kind == "traffic":
                self._gateways.reported(session, request.traffic)
            if kind != "ack":
                continue
            if request.ack.refusal:
                log.warning("table_refused", gateway=session.gateway_id, reason=request.ack.refusal)
            self._gateways.acknowledged(session, request.ack)

    async def _identify(self, said: str, context: Context) -> None:
        """Check that the caller's certificate is for the gateway that ``said`` names, or that it is a worker of."""
        if self._gate is None:
            return
        identity = await self._gate.admit(context, Identity.KIND_GATEWAY)
        require_id(identity.id, said.split("/", maxsplit=1)[0], "gateway")

    @guarded
    async def LeaseQuota(  # noqa: N802 - the contract's name
        self, request: LeaseQuotaRequest, context: Context
    ) -> LeaseQuotaResponse:
        """Lease parts of keys' and tenants' bounds to a gateway, which alone may spend them."""
        self._leadership.require()
        await self._identify(request.gateway_id, context)
        quota.check(request)
        async with self._database.transaction() as conn:
            await lease.check(conn, self._leadership.term)
            return await quota.lease(conn, request, datetime.now(UTC))

    @guarded
    async def GetProviderSecrets(  # noqa: N802 - the contract's name
        self, request: GetProviderSecretsRequest, context: Context
    ) -> GetProviderSecretsResponse:
        """Keys of providers, which the gateway keeps in its memory alone."""
        if self._gate is not None:
            await self._gate.admit(context, Identity.KIND_GATEWAY)
        return GetProviderSecretsResponse(values=await secrets_for_gateway(self._database, self._sealer, request.names))

    @guarded
    async def ReportUsage(  # noqa: N802 - the contract's name
        self, request: ReportUsageRequest, context: Context
    ) -> ReportUsageResponse:
        """Store finished requests; one that arrives twice counts once."""
        if len(request.records) > MOST_RECORDS:
            raise InvalidError(f"{len(request.records)} usage records in one call, at most {MOST_RECORDS}")
        await self._identify(request.gateway_id, context)
        async with self._database.transaction() as conn:
            await usage.record(conn, request.gateway_id, request.records)
        return ReportUsageResponse()
