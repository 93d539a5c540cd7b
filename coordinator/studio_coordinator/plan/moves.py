"""Moves turned into rows: the replacement, placed where the move says, and the mark on who is to go once it serves.

The mark is a reason to retire on a replica that does not retire yet. ``scale`` treats it like one of an older revision: it serves
until its replacement does, and stays where the replacement fails.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.admin_service_pb2 import Move as MoveMessage
from studio.v1.replica_pb2 import Replica

from studio_coordinator.plan.fleet import Fleet
from studio_coordinator.plan.members import is_group
from studio_coordinator.plan.rebalance import Move, propose_moves
from studio_coordinator.plan.sizing import UNKNOWN
from studio_coordinator.plan.snapshot import Snapshot
from studio_coordinator.plan.wish import wish_of


@dataclass(frozen=True)
class Rebalanced:
    """What to show, and what to store."""

    moves: tuple[MoveMessage, ...]
    inserted: tuple[Replica, ...]
    updated: tuple[Replica, ...]


def rebalanced(snapshot: Snapshot, start_seconds: Mapping[str, float]) -> Rebalanced:
    """The worthwhile moves of the replicas that serve; ``start_seconds``: how long each took to start, by id."""
    fleet = Fleet.of(
        snapshot.hosts,
        snapshot.replicas,
        snapshot.deployments,
        snapshot.recipes,
        snapshot.models_on_hosts,
        snapshot.now,
        snapshot.sizes,
    )
    owners = {deployment.name: deployment for deployment in snapshot.deployments}
    wishes = {}
    for row in snapshot.replicas:
        revision = row.recipe_name, row.recipe_revision
        owner, recipe = owners.get(row.deployment), snapshot.recipes.get(revision)
        # One over several hosts stays: a move is from one host to one other.
        settled = row.state == Replica.STATE_READY and not (row.retiring or row.retiring_reason or is_group(row))
        if settled and owner is not None and recipe is not None and row.recipe_revision == owner.target_revision:
            wishes[row.id] = wish_of(owner, recipe, snapshot.sizes.get(revision, UNKNOWN))
    moves = propose_moves(fleet, wishes)
    rows = {row.id: row for row in snapshot.replicas}
    ids = {host.name: host.id for host in snapshot.hosts}
    now = Timestamp()
    now.FromDatetime(snapshot.now)
    taken = set(rows)
    inserted = []
    for move in moves:
        inserted.append(_replacement(rows[move.replica_id], move, ids[move.to_host], taken, now))
        taken.add(inserted[-1].id)
    return Rebalanced(
        tuple(_message(move, start_seconds) for move in moves),
        tuple(inserted),
        tuple(_marked(rows[move.replica_id], move) for move in moves),
    )


def _replacement(row: Replica, move: Move, host_id: str, taken: set[str], now: Timestamp) -> Replica:
    number = next(n for n in range(1, len(taken) + 2) if f"{row.deployment}-{n}" not in taken)
    return Replica(
        id=f"{row.deployment}-{number}",
        deployment=row.deployment,
        recipe_name=row.recipe_name,
        recipe_revision=row.recipe_revision,
        host_id=host_id,
        host_name=move.to_host,
        gpu_uuids=move.gpu_uuids,
        state=Replica.STATE_PENDING,
        state_reason=f"placed on {move.to_host}: takes the place of {row.id}",
        state_since=now,
        generation=row.generation,
        engine=row.engine,
    )


def _marked(row: Replica, move: Move) -> Replica:
    marked = Replica()
    marked.CopyFrom(row)
    marked.retiring_reason = f"moves to {move.to_host}: {move.reason}"
    return marked


def _message(move: Move, start_seconds: Mapping[str, float]) -> MoveMessage:
    return MoveMessage(
        replica_id=move.replica_id,
        from_host=move.from_host,
        to_host=move.to_host,
        reason=move.reason,
        cost_seconds=start_seconds.get(move.replica_id),
    )
