"""What hosts are told of a database that was accepted."""

from collections.abc import Sequence

from studio.v1.admin_service_pb2 import AcceptedHost

from studio_cli import wording
from studio_cli.views.table import Column, Row, Table

COLUMNS = (Column("HOST"), Column("HAD", right=True), Column("GETS", right=True), Column("STOPS"))


def accepted_table(hosts: Sequence[AcceptedHost]) -> Table:
    """One row for each connected host: its generation before and after, and what it stops."""
    rows = tuple(
        Row(
            host.host,
            (
                host.host,
                str(host.applied_generation),
                str(host.generation),
                ", ".join(host.unknown_replicas) or wording.NOTHING,
            ),
        )
        for host in hosts
    )
    return Table(COLUMNS, rows, "no host is connected")
