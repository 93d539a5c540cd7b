"""Secrets on their way to who needs them: a host gets those of recipes placed on it, a gateway those of providers."""

from collections.abc import Iterable

from studio_runtime.errors import DeniedError, InvalidError, NotFoundError

from studio_coordinator.access.admission import secrets_of
from studio_coordinator.sealing import Sealer
from studio_coordinator.store import assignments, providers, secrets
from studio_coordinator.store.database import Connection, Database

MOST_NAMES = 100
# Metadata of a connection that proves no host by itself, which only a loopback listener without TLS takes.
HOST_ID = "studio-host-id"


async def secrets_for_host(database: Database, sealer: Sealer, host_id: str, names: Iterable[str]) -> dict[str, str]:
    """The values of ``names``. Raises DeniedError for a name that no recipe on the host has, NotFoundError for none stored."""
    wanted = _bounded(names)
    async with database.transaction() as conn:
        assignment = await assignments.get_assignment(conn, host_id)
        placed = [] if assignment is None else [replica.recipe for replica in assignment.replicas]
        own = {name for recipe in placed for name in secrets_of(recipe)}
        return await _opened(conn, sealer, wanted, own, f"no recipe that is placed on host {host_id} names")


async def secrets_for_gateway(database: Database, sealer: Sealer, names: Iterable[str]) -> dict[str, str]:
    """The values of ``names``. Raises DeniedError for a name that no provider has, NotFoundError for none stored."""
    wanted = _bounded(names)
    async with database.transaction() as conn:
        own = {provider.api_key_secret for provider in await providers.list_providers(conn)}
        return await _opened(conn, sealer, wanted, own, "no provider names")


def _bounded(names: Iterable[str]) -> set[str]:
    wanted = set(names)
    if len(wanted) > MOST_NAMES:
        raise InvalidError(f"{len(wanted)} secrets in one call, at most {MOST_NAMES}")
    return wanted


async def _opened(conn: Connection, sealer: Sealer, wanted: set[str], own: set[str], why_not: str) -> dict[str, str]:
    if others := sorted(wanted - own):
        raise DeniedError(f"{why_not} the secret {', '.join(others)}")
    values = await secrets.open_values(conn, sealer, wanted)
    if missing := sorted(wanted - values.keys()):
        raise NotFoundError(f"the secret {', '.join(missing)} is not stored", "Store it: studio secrets put NAME")
    return values
