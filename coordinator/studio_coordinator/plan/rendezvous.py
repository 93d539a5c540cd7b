"""Where the parts of a replica over several hosts meet: rank 0's engine address, and a port that is kept for it.

The port follows from the replica and its generation, so that every coordinator would choose it, and a start that found its port
taken by a stranger has another one the next time. It lies beside the agents' range for engines and below that of outgoing
connections.
"""

from collections.abc import Iterable, Mapping
from zlib import crc32

from studio.v1.assignment_pb2 import Assignment, Group
from studio.v1.host_pb2 import Host
from studio.v1.replica_pb2 import Replica

FIRST_PORT, PORTS = 30_000, 2_000
LOOPBACK = "127.0.0.1"


def rendezvous(
    replicas: Iterable[Replica], hosts: Mapping[str, Host], current: Mapping[str, Assignment]
) -> dict[str, Group]:
    """Rank 0's part of the ``Group`` of each replica over several hosts, by id. What a running one was told stays."""
    groups = [row for row in sorted(replicas, key=lambda row: row.id) if row.members and row.host_id in hosts]
    told = {row.id: known for row in groups if (known := _told(row, current)) is not None}
    taken = {(known.leader_address, known.leader_port) for known in told.values()}
    for row in groups:
        if row.id not in told:
            address = hosts[row.host_id].facts.engine_address or LOOPBACK
            start = crc32(f"{row.id}/{row.generation}".encode())
            ports = (FIRST_PORT + (start + step) % PORTS for step in range(PORTS))
            port = next(port for port in ports if (address, port) not in taken)
            taken.add((address, port))
            told[row.id] = Group(size=1 + len(row.members), leader_address=address, leader_port=port)
    return told


def _told(row: Replica, current: Mapping[str, Assignment]) -> Group | None:
    document = current.get(row.host_id, Assignment())
    for item in document.replicas:
        if item.replica_id == row.id and item.generation == row.generation and item.HasField("group"):
            return item.group
    return None
