"""Whose an object is."""

from studio_runtime.errors import DeniedError, NotFoundError

from studio_coordinator.access.caller import Caller
from studio_coordinator.store import access, deployments, operators, replicas, secrets
from studio_coordinator.store.database import Connection


async def require_own(conn: Connection, caller: Caller, objects: list[str]) -> None:
    """Raise NotFoundError unless each object is the caller's tenant's; what is another's looks like what is not there.

    Objects that are only now to be made, and those that have no tenant of their own, are DeniedError or fine by their kind.
    """
    for named in objects:
        kind, _, name = named.partition("/")
        tenant = await tenant_of(conn, kind, name)
        if kind == "Tenant" and tenant != caller.tenant:
            raise DeniedError(
                f"{caller.name} administers the tenant {caller.tenant}, not {tenant or 'the whole fleet'}",
                "Leave the tenant out, or ask an operator of the whole fleet.",
            )
        if tenant not in (None, caller.tenant):
            raise NotFoundError(f"the tenant {caller.tenant} has no {kind.lower()} {name}")


async def tenant_of(conn: Connection, kind: str, name: str) -> str | None:
    """The tenant of an object, "" being the fleet's; None where there is no such object (yet)."""
    match kind:
        case "Tenant":
            return name
        case "Deployment" | "Serving":
            return await _of_deployment(conn, name, serving=kind == "Serving")
        case "Key":
            keys = {key.id: key.tenant for key in await access.list_keys(conn)}
            return keys.get(name)
        case "Operator":
            found = {operator.name: operator.tenant for operator in await operators.list_operators(conn)}
            return found.get(name)
        case "Secret":
            return (await secrets.tenants_of(conn, [name])).get(name)
        case _:
            raise ValueError(f"nobody decided whose a {kind} is")


async def deployments_of(conn: Connection, tenant: str) -> frozenset[str]:
    """The names of a tenant's deployments."""
    return frozenset(one.name for one in await deployments.list_deployments(conn) if one.spec.tenant == tenant)


async def _of_deployment(conn: Connection, name: str, *, serving: bool) -> str | None:
    """By the deployment's name; for what serves also by a replica's id."""
    known = {one.name: one.spec.tenant for one in await deployments.list_deployments(conn)}
    if serving:
        # One part of a replica over several hosts is ``chat-1/2``; whose it is does not depend on the part.
        name = name.partition("/")[0]
    if name not in known and serving:
        of_replica = {row.id: row.deployment for row in await replicas.list_replicas(conn)}
        name = of_replica.get(name, "")
    return known.get(name)
