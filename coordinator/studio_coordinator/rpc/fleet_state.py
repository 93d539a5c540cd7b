"""What a manifest says beside recipes and deployments: tenants, prices, providers' models, and what operators decided of hosts.

Each kind needs the right that its own call needs; all of it is stored in the transaction of the manifest, or nothing is.
"""

from dataclasses import dataclass
from datetime import datetime

from studio.v1.admin_service_pb2 import Applied
from studio.v1.host_pb2 import Host
from studio.v1.route_pb2 import Price, ProviderRoute, Tenant

from studio_coordinator.access.caller import Caller
from studio_coordinator.access.interceptor import allow
from studio_coordinator.access.rules import ADMIN_SERVICE
from studio_coordinator.manifest import Parsed, changed_paths
from studio_coordinator.manifest.kinds import Item, kind_of, name_of, written
from studio_coordinator.rpc.keys import checked
from studio_coordinator.rpc.provider_rules import check_address, check_provider, check_secret
from studio_coordinator.store import hosts, prices, providers, tenants
from studio_coordinator.store.database import Connection

# The call that changes one of a kind by itself.
CALLS = {"Tenant": "PutTenant", "Price": "PutPrice", "Provider": "AddProvider", "Host": "UpdateHost"}


async def check_fleet(caller: Caller, parsed: Parsed) -> None:
    """Raise DeniedError or InvalidError for what must not be stored. Resolves names of providers; call it in no transaction."""
    for kind in sorted({kind_of(item) for item in parsed.fleet}):
        allow(ADMIN_SERVICE[CALLS[kind]], caller, f"AdminService/{CALLS[kind]}")
    for provider in parsed.providers:
        check_provider(provider)
        await check_address(provider, caller)
    for tenant in parsed.tenants:
        if tenant.HasField("limits"):
            tenant.limits.CopyFrom(checked(tenant.limits))


@dataclass(frozen=True)
class FleetWriter:
    """Stores what ``check_fleet`` let through, inside the caller's transaction."""

    conn: Connection
    actor: str
    now: datetime
    # Leave what is there already as it is.
    create_only: bool = False

    async def put(self, parsed: Parsed) -> list[Applied]:
        """Store what differs. Raises NotFoundError for a secret that is not stored, or a host that never joined."""
        known: dict[str, Item] = {f"Tenant/{one.name}": one for one in await tenants.list_tenants(self.conn)}
        known |= {f"Price/{one.model}": one for one in await prices.list_prices(self.conn)}
        known |= {f"Provider/{one.model}": one for one in await providers.list_providers(self.conn)}
        known |= {f"Host/{one.name}": await hosts.find_host(self.conn, one.name) for one in parsed.hosts}
        return [await self._put(item, known.get(f"{kind_of(item)}/{name_of(item)}")) for item in parsed.fleet]

    async def _put(self, item: Item, before: Item | None) -> Applied:
        applied = Applied(kind=kind_of(item), name=name_of(item), outcome=Applied.OUTCOME_CREATED)
        if before is not None:
            if self.create_only or written(before) == written(item):
                applied.outcome = Applied.OUTCOME_UNCHANGED
                return applied
            applied.outcome = Applied.OUTCOME_CHANGED
            applied.changes.extend(changed_paths(before, item))
        match item:
            case Tenant():
                await self._put_tenant(item, before)
            case Price():
                await prices.put_price(self.conn, item)
            case ProviderRoute():
                await check_secret(self.conn, item)
                await providers.add_provider(self.conn, item, self.actor, self.now)
            case Host():
                await self._put_host(item, before)
        return applied

    async def _put_tenant(self, tenant: Tenant, before: Item | None) -> None:
        stored = Tenant()
        stored.CopyFrom(tenant)
        if isinstance(before, Tenant):
            stored.version = before.version
            await tenants.change_tenant(self.conn, stored)
        else:
            stored.created_at.FromDatetime(self.now)
            await tenants.create_tenant(self.conn, stored)

    async def _put_host(self, host: Host, before: Item | None) -> None:
        edited = Host()
        if isinstance(before, Host):
            edited.CopyFrom(before)
        edited.ClearField("labels")
        edited.labels.update(host.labels)
        edited.cordoned, edited.draining = host.cordoned, host.draining
        await hosts.update_host(self.conn, edited)
