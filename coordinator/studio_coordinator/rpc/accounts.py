"""AdminService: providers, usage."""

from datetime import UTC, datetime
from typing import Any

import grpc
from studio.v1.admin_service_pb2 import (
    AddProviderRequest,
    AddProviderResponse,
    ListProvidersRequest,
    ListProvidersResponse,
    ListUsageRequest,
    ListUsageResponse,
    RemoveProviderRequest,
    RemoveProviderResponse,
)

from studio_coordinator.access.caller import current_caller
from studio_coordinator.rpc.guard import actor_of, guarded
from studio_coordinator.rpc.provider_rules import check_address, check_provider, check_secret
from studio_coordinator.rpc.state import AdminState
from studio_coordinator.store import providers, usage

Context = grpc.aio.ServicerContext[Any, Any]


class Accounts(AdminState):
    """What else there is to call, and who called how much."""

    @guarded
    async def AddProvider(self, request: AddProviderRequest, context: Context) -> AddProviderResponse:  # noqa: N802
        """Offer a model of another provider under a public name."""
        self.leadership.require()
        provider = request.provider
        check_provider(provider)
        await check_address(provider, current_caller())
        async with self.database.transaction() as conn:
            await check_secret(conn, provider)
            await providers.add_provider(conn, provider, actor_of(context), datetime.now(UTC))
        self.desired_changed()
        return AddProviderResponse(provider=provider)

    @guarded
    async def ListProviders(  # noqa: N802 - the contract's name
        self, _request: ListProvidersRequest, _context: Context
    ) -> ListProvidersResponse:
        """Models of other providers."""
        async with self.database.transaction() as conn:
            return ListProvidersResponse(providers=await providers.list_providers(conn))

    @guarded
    async def RemoveProvider(  # noqa: N802 - the contract's name
        self, request: RemoveProviderRequest, _context: Context
    ) -> RemoveProviderResponse:
        """Offer a provider's model no more."""
        self.leadership.require()
        async with self.database.transaction() as conn:
            await providers.remove_provider(conn, request.model)
        self.desired_changed()
        return RemoveProviderResponse()

    @guarded
    async def ListUsage(self, request: ListUsageRequest, _context: Context) -> ListUsageResponse:  # noqa: N802
        """Requests, tokens and cost, added up by tenant, model, key or day."""
        since = request.since.ToDatetime(UTC) if request.HasField("since") else datetime.fromtimestamp(0, UTC)
        until = request.until.ToDatetime(UTC) if request.HasField("until") else None
        async with self.database.transaction() as conn:
            totals = await usage.totals(conn, since, list(request.group_by), until)
        return ListUsageResponse(totals=totals)
