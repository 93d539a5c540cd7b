"""The table of keys, tenants and prices, read again only when one of them was changed."""

from studio.v1.route_pb2 import AccessTable

from studio_coordinator.store import access, prices, tenants
from studio_coordinator.store.database import Connection


class AccessBook:
    """Whatever changes a key, a tenant or a price raises the access version in the same transaction (`store.access`)."""

    def __init__(self, pepper: bytes) -> None:
        # With which API keys are hashed.
        self._pepper = pepper
        # Of which leader's term; a database that was restored begins another.
        self._term = 0
        self._table: AccessTable | None = None

    async def table(self, conn: Connection, term: int) -> AccessTable:
        """The table as it is now. It is a value: the same one until something changes."""
        version = await access.access_version(conn)
        if self._table is None or (self._term, self._table.version) != (term, version):
            # What is committed between these statements raises the version again, and is read by the next pass.
            self._table = AccessTable(
                version=version,
                pepper=self._pepper,
                keys=await access.list_keys(conn),
                tenants=await tenants.list_tenants(conn),
                prices=await prices.list_prices(conn),
            )
            self._term = term
        return self._table
