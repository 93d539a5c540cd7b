"""Engines that a new document would stop though nobody wants them gone: a row that vanished, a recipe that cannot be read ★.

Everything that is to stop has a row that says why: an operator's word, a rollout, a drain, a lost host. Where more than half of a
host's or of the fleet's replicas would stop without one, the coordinator itself is wrong: they stay as their host was last told,
and an event says so. Fewer are left to the agent's own brake, which the document does not release.
"""

from collections.abc import Collection, Mapping, Sequence

from studio.v1.assignment_pb2 import AssignedReplica, Assignment


def held_back(
    current: Mapping[str, Assignment],
    wanted: Mapping[str, Sequence[AssignedReplica]],
    explained: Collection[str],
) -> dict[str, list[AssignedReplica]]:
    """By host, what stays in its document although ``wanted`` lacks it; ``explained``: ids of replicas that have a row."""
    unexplained: dict[str, list[AssignedReplica]] = {}
    for host_id, document in current.items():
        if not document.replicas:
            continue
        kept = {item.replica_id for item in wanted.get(host_id, ())}
        dropped = [
            item for item in document.replicas if item.replica_id not in kept and item.replica_id not in explained
        ]
        if dropped:
            unexplained[host_id] = dropped
    if not unexplained:
        return {}
    in_all = sum(len(document.replicas) for document in current.values())
    if 2 * sum(map(len, unexplained.values())) > in_all:
        return unexplained
    return {
        host_id: dropped
        for host_id, dropped in unexplained.items()
        if 2 * len(dropped) > len(current[host_id].replicas)
    }
