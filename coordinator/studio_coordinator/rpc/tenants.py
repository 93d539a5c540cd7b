"""AdminService: tenants and prices."""

import re
from datetime import UTC, datetime
from typing import Any

import grpc
from studio.v1.admin_service_pb2 import (
    ListPricesRequest,
    ListPricesResponse,
    ListTenantsRequest,
    ListTenantsResponse,
    PutPriceRequest,
    PutPriceResponse,
    PutTenantRequest,
    PutTenantResponse,
    RemovePriceRequest,
    RemovePriceResponse,
    RemoveTenantRequest,
    RemoveTenantResponse,
)
from studio_runtime.errors import ConflictError, InvalidError

from studio_coordinator.rpc.guard import guarded
from studio_coordinator.rpc.keys import checked
from studio_coordinator.rpc.state import AdminState
from studio_coordinator.store import access, deployments, prices, tenants

Context = grpc.aio.ServicerContext[Any, Any]

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class Tenants(AdminState):
    """Who keys and deployments belong to, and what tokens cost."""

    @guarded
    async def PutTenant(self, request: PutTenantRequest, _context: Context) -> PutTenantResponse:  # noqa: N802
        """Create a tenant, or replace what is stored of it."""
        self.leadership.require()
        tenant = request.tenant
        if not NAME.fullmatch(tenant.name):
            raise InvalidError(
                f"{tenant.name!r} is no name of a tenant", "Use small letters, digits and dashes, at most 63."
            )
        if tenant.HasField("weight") and not 0 < tenant.weight <= 1000:  # noqa: PLR2004 - any bound keeps shares sound
            raise InvalidError(f"the weight of a tenant is above 0 and at most 1000, not {tenant.weight}")
        if tenant.HasField("limits"):
            tenant.limits.CopyFrom(checked(tenant.limits))
        if tenant.HasField("user_limits"):
            tenant.user_limits.CopyFrom(checked(tenant.user_limits))
        async with self.database.transaction() as conn:
            if tenant.version:
                stored = await tenants.change_tenant(conn, tenant)
            else:
                tenant.created_at.FromDatetime(datetime.now(UTC))
                stored = await tenants.create_tenant(conn, tenant)
        self.desired_changed()
        return PutTenantResponse(tenant=stored)

    @guarded
    async def ListTenants(self, _request: ListTenantsRequest, _context: Context) -> ListTenantsResponse:  # noqa: N802
        """All tenants."""
        async with self.database.transaction() as conn:
            return ListTenantsResponse(tenants=await tenants.list_tenants(conn))

    @guarded
    async def RemoveTenant(self, request: RemoveTenantRequest, _context: Context) -> RemoveTenantResponse:  # noqa: N802
        """Remove a tenant that nothing belongs to any more."""
        self.leadership.require()
        if request.name == tenants.DEFAULT:
            raise ConflictError(f"the tenant {tenants.DEFAULT} is everybody's and stays")
        async with self.database.transaction() as conn:
            await tenants.get_tenant(conn, request.name)
            if request.name in await access.tenants_with_keys(conn):
                raise ConflictError(f"tenant {request.name} has keys", "Revoke them first: studio keys lists them.")
            theirs = [one.name for one in await deployments.list_deployments(conn) if one.spec.tenant == request.name]
            if theirs:
                raise ConflictError(
                    f"tenant {request.name} has deployments: {', '.join(theirs)}",
                    "Delete them, or give them to another tenant, first.",
                )
            await tenants.remove_tenant(conn, request.name)
        self.desired_changed()
        return RemoveTenantResponse()

    @guarded
    async def PutPrice(self, request: PutPriceRequest, _context: Context) -> PutPriceResponse:  # noqa: N802
        """Say what a million tokens of a model cost from now on."""
        self.leadership.require()
        price = request.price
        if not price.model:
            raise InvalidError("a price needs the public name of a model")
        if min(price.prompt_micros, price.completion_micros, price.cached_micros) < 0:
            raise InvalidError(f"a price of {price.model} is negative")
        async with self.database.transaction() as conn:
            await prices.put_price(conn, price)
        self.desired_changed()
        return PutPriceResponse(price=price)

    @guarded
    async def ListPrices(self, _request: ListPricesRequest, _context: Context) -> ListPricesResponse:  # noqa: N802
        """All prices."""
        async with self.database.transaction() as conn:
            return ListPricesResponse(prices=await prices.list_prices(conn))

    @guarded
    async def RemovePrice(self, request: RemovePriceRequest, _context: Context) -> RemovePriceResponse:  # noqa: N802
        """A model costs nothing from now on."""
        self.leadership.require()
        async with self.database.transaction() as conn:
            await prices.remove_price(conn, request.model)
        self.desired_changed()
        return RemovePriceResponse()
