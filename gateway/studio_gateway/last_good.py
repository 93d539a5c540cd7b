"""The last good tables on disk: a gateway that starts while the coordinator is away serves from them."""

from dataclasses import dataclass
from pathlib import Path

import structlog
from google.protobuf.message import DecodeError
from studio.v1.route_pb2 import AccessTable, RouteTable
from studio_runtime.process import write_atomically

from studio_gateway.in_force import InForce
from studio_gateway.table import UnsoundTableError

log = structlog.get_logger()

ROUTES = "last-good-routes.binpb"
ACCESS = "last-good-access.binpb"


@dataclass(frozen=True)
class LastGood:
    """The two files in the gateway's state folder, readable by its user only. The methods block on the disk."""

    folder: Path

    def save(self, table: RouteTable | AccessTable) -> None:
        """Replace the copy of this kind of table."""
        name = ROUTES if isinstance(table, RouteTable) else ACCESS
        write_atomically(self.folder / name, table.SerializeToString())

    def load_into(self, in_force: InForce) -> None:
        """Put in force what is there; a copy that cannot be read is left alone and logged."""
        try:
            if routes := self._read(ROUTES):
                in_force.put_routes(RouteTable.FromString(routes))
            if access := self._read(ACCESS):
                in_force.put_access(AccessTable.FromString(access))
        except (OSError, DecodeError, UnsoundTableError) as error:
            log.warning("last_good_copy_unreadable", folder=str(self.folder), error=str(error))

    def _read(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return b""
