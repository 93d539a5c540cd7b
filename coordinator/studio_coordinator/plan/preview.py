"""What a pass would do for some deployments: where each replica would go, with what, and why not elsewhere.

The pass itself is asked, on a snapshot in which the manifest is already applied: what is shown is what will be done.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from studio.v1.assignment_pb2 import AssignedReplica
from studio.v1.deployment_pb2 import Deployment
from studio.v1.recipe_pb2 import Recipe
from studio.v1.replica_pb2 import Replica

from studio_coordinator.plan.members import Part, gpu_count, parts
from studio_coordinator.plan.reconcile import Decision, decide
from studio_coordinator.plan.sizing import UNKNOWN, GpuKind, OnKind, Sizing
from studio_coordinator.plan.snapshot import Snapshot
from studio_coordinator.plan.why_not import wants, why_not
from studio_coordinator.plan.wish import Wish, wish_of
from studio_coordinator.plan.would_fit import would_fit


@dataclass(frozen=True)
class Planned:
    """One replica or a part of it on one host, or a deployment that wants none (then without an id)."""

    deployment: str
    replica_id: str
    reason: str
    host_id: str = ""
    host_name: str = ""
    gpu_uuids: tuple[str, ...] = ()
    # Why not the other hosts, alike ones together, and what would make it fit.
    refusals: tuple[str, ...] = ()
    # What its host would be told; None without a host.
    told: AssignedReplica | None = None
    on: OnKind | None = None


@dataclass(frozen=True)
class Preview:
    """The replicas of the deployments that were asked about, and who would have to go for them."""

    replicas: tuple[Planned, ...]
    preempted: tuple[str, ...]


def preview(snapshot: Snapshot, names: Collection[str]) -> Preview:
    """What the next pass would do for the deployments ``names``."""
    decision = decide(snapshot)
    before = {row.id: row for row in snapshot.replicas}
    planned: list[Planned] = []
    for deployment in snapshot.deployments:
        if deployment.name in names:
            rows = [row for row in decision.rows.values() if row.deployment == deployment.name and not row.retiring]
            found = [one for row in rows for one in _planned(snapshot, decision, deployment, row)]
            planned += found or [_none(snapshot, deployment)]
    gone = [
        f"{row.id} on {row.host_name}: {row.retiring_reason}"
        for row in decision.rows.values()
        if row.retiring and row.id in before and not before[row.id].retiring and row.deployment not in names
    ]
    return Preview(tuple(planned), tuple(gone))


def _planned(snapshot: Snapshot, decision: Decision, deployment: Deployment, row: Replica) -> Iterator[Planned]:
    """The replica, and after it each of its parts on other hosts."""
    revision = row.recipe_name, row.recipe_revision
    recipe, sizing = snapshot.recipes.get(revision, Recipe()), snapshot.sizes.get(revision, UNKNOWN)
    wish = wish_of(deployment, recipe, sizing)
    reason = row.state_reason
    if row.host_id and any(known.id == row.id and known.host_id for known in snapshot.replicas):
        reason = f"it is on {row.host_name} already"
    elif not row.host_id:
        # The sentence without the hosts: they come line by line.
        reason = reason.partition("; ")[0]
    refusals = tuple(_refusals(decision, wish, row))
    on = _on(snapshot, sizing, row)
    for part in parts(row) or [Part(0, "", "", ())]:
        yield Planned(
            deployment.name,
            row.id,
            f"rank {part.rank} of {row.id}" if part.rank else reason + _unknown(sizing),
            part.host_id,
            part.host_name,
            part.gpu_uuids,
            () if part.rank else refusals,
            _told(snapshot, decision, row.id, part.host_id),
            on,
        )


def _none(snapshot: Snapshot, deployment: Deployment) -> Planned:
    revision = deployment.spec.recipe, deployment.target_revision
    sizing = snapshot.sizes.get(revision, UNKNOWN)
    wish = wish_of(deployment, snapshot.recipes.get(revision, Recipe()), sizing)
    reason = f"it wants no replica now; one would take {wants(wish)}{_unknown(sizing)}"
    return Planned(deployment.name, "", reason, on=_on(snapshot, sizing, Replica()))


def _refusals(decision: Decision, wish: Wish, row: Replica) -> list[str]:
    told = [
        str(group if group.reason else replace(group, reason="has room, and ranks behind"))
        for group in why_not(decision.fleet, wish, except_hosts=[part.host_id for part in parts(row)])
    ]
    if not row.host_id:
        told += [f"would fit: {way}" for way in would_fit(decision.fleet, wish)]
    return told


def _told(snapshot: Snapshot, decision: Decision, replica_id: str, host_id: str) -> AssignedReplica | None:
    """From the document that the host would get, or has."""
    document = decision.plan.assignments.get(host_id) or snapshot.assignments.get(host_id)
    if document is None:
        return None
    return next((item for item in document.replicas if item.replica_id == replica_id), None)


def _on(snapshot: Snapshot, sizing: Sizing, row: Replica) -> OnKind | None:
    """The estimate for the GPUs where it goes; without a place, for the kind on which it fits, or any."""
    for host in snapshot.hosts:
        for gpu in host.gpus:
            if gpu.uuid in row.gpu_uuids:
                return sizing.at(GpuKind(gpu.model, gpu.memory_bytes), gpu_count(row))
    fitting = sorted(sizing.on.items(), key=lambda item: (item[1].reserve_bytes > item[0].memory_bytes, item[0]))
    return fitting[0][1] if fitting else None


def _unknown(sizing: Sizing) -> str:
    return f"; its memory is not known: {sizing.note}" if sizing.note and not sizing.on else ""
