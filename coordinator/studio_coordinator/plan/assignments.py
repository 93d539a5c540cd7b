"""Each host's document that follows from the replicas: what it should run, whole.

A retiring replica stays in the document until every known gateway has put a table without it in force: withdrawn first, stopped
after.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

from google.protobuf.duration_pb2 import Duration
from studio.v1.assignment_pb2 import AssignedReplica, Assignment, Group
from studio.v1.deployment_pb2 import Deployment
from studio.v1.host_pb2 import Host
from studio.v1.recipe_pb2 import Recipe
from studio.v1.replica_pb2 import Replica

from studio_coordinator.plan.group import is_stopped
from studio_coordinator.plan.mass_stops import held_back
from studio_coordinator.plan.members import Part, parts
from studio_coordinator.plan.presets import effective
from studio_coordinator.plan.rendezvous import rendezvous

DEFAULT_DRAIN_SECONDS = 30
DEFAULT_GRACE_SECONDS = 15


def desired_assignments(
    hosts: Mapping[str, Host],
    current: Mapping[str, Assignment],
    term: int,
    replicas: Sequence[Replica],
    deployments: Mapping[str, Deployment],
    recipes: Mapping[tuple[str, int], Recipe],
    traceparents: Mapping[str, str],
    withdrawn: Collection[str],
    allowances: Mapping[str, int] = MappingProxyType({}),
) -> tuple[dict[str, Assignment], dict[str, list[AssignedReplica]]]:
    """The documents that differ from ``current``, by host id; and what is held back in them (see ``mass_stops``).

    ``withdrawn``: ids of replicas that are to go or to sleep, and whose route is gone from every gateway. ``allowances``: bytes
    of each GPU for the replicas that were placed just now; the others keep what their document says, so that what a running
    engine was told stays.
    """
    allowances = {
        item.replica_id: item.gpu_memory_bytes for document in current.values() for item in document.replicas
    } | dict(allowances)
    asleep = {
        item.replica_id
        for document in current.values()
        for item in document.replicas
        if item.wish == AssignedReplica.WISH_SLEEP
    }
    wanted: dict[str, list[AssignedReplica]] = defaultdict(list)
    confirmed: set[str] = set()
    meetings = rendezvous(replicas, hosts, current)
    for replica in sorted(replicas, key=lambda item: item.id):
        if not replica.host_id:
            continue
        if replica.id in withdrawn and (replica.retiring or is_stopped(replica)):
            # Whoever retired it gave the reason; the agent's own brake need not ask again.
            confirmed.update(part.host_id for part in parts(replica))
            continue
        deployment = deployments.get(replica.deployment)
        recipe = recipes.get((replica.recipe_name, replica.recipe_revision))
        if recipe is None:
            continue
        told = assigned(
            replica,
            deployment,
            recipe,
            allowances.get(replica.id, 0),
            traceparents.get(replica.deployment, ""),
            # One that sleeps and is to go sleeps on until then: its GPUs may be another's.
            replica.sleep_level if replica.id in withdrawn or (replica.retiring and replica.id in asleep) else 0,
        )
        for part in parts(replica):
            wanted[part.host_id].append(told_part(told, part, meetings.get(replica.id)))
    # A row without a recipe explains no stop: nobody can say what it was.
    explained = {row.id for row in replicas if (row.recipe_name, row.recipe_revision) in recipes}
    held = held_back(current, wanted, explained)
    for host_id, items in held.items():
        wanted[host_id] = sorted([*wanted.get(host_id, []), *items], key=lambda item: item.replica_id)
    changed = {}
    for host_id in hosts:
        before = current.get(host_id)
        documents = wanted.get(host_id, [])
        if before is not None and not documents and not before.replicas:
            # Most hosts of a large fleet, in most passes.
            continue
        if before is None or _content(before.replicas) != _content(documents):
            changed[host_id] = Assignment(
                generation=(before.generation if before is not None else 0) + 1,
                term=term,
                replicas=documents,
                stops_confirmed=host_id in confirmed and not _drops(before, documents, explained),
            )
    return changed, held


def _drops(before: Assignment | None, documents: Sequence[AssignedReplica], explained: Collection[str]) -> bool:
    """Whether something is left out without a reason: then the agent's own brake has the last word."""
    kept = {item.replica_id for item in documents}
    items = before.replicas if before is not None else ()
    return any(item.replica_id not in kept and item.replica_id not in explained for item in items)


def told_part(told: AssignedReplica, part: Part, meeting: Group | None) -> AssignedReplica:
    """What the host of one part is told; ``meeting``: where the parts of a replica over several hosts meet."""
    if meeting is None:
        return told
    of_part = AssignedReplica()
    of_part.CopyFrom(told)
    of_part.gpu_uuids[:] = part.gpu_uuids
    of_part.group.CopyFrom(meeting)
    of_part.group.rank = part.rank
    return of_part


def _content(replicas: Sequence[AssignedReplica]) -> list[bytes]:
    """What makes two documents the same: all but the trace context, which only labels a change."""
    contents = []
    for replica in replicas:
        bare = AssignedReplica()
        bare.CopyFrom(replica)
        bare.ClearField("traceparent")
        contents.append(bare.SerializeToString(deterministic=True))
    return contents


def assigned(
    replica: Replica,
    deployment: Deployment | None,
    recipe: Recipe,
    gpu_memory_bytes: int = 0,
    traceparent: str = "",
    sleep_level: int = 0,
) -> AssignedReplica:
    """What its host is told of a replica."""
    told = AssignedReplica(
        replica_id=replica.id,
        deployment=replica.deployment,
        generation=replica.generation,
        recipe_name=replica.recipe_name,
        recipe_revision=replica.recipe_revision,
        # What an agent gets to see is only ever written out.
        recipe=effective(recipe),
        # Aliases are the gateway's: it renames them, so that changing one needs no restart.
        model_names=[replica.deployment],
        gpu_uuids=replica.gpu_uuids,
        gpu_memory_bytes=gpu_memory_bytes,
        wish=AssignedReplica.WISH_SLEEP if sleep_level else AssignedReplica.WISH_RUN,
        sleep_level=sleep_level,
        drain_deadline=Duration(seconds=DEFAULT_DRAIN_SECONDS),
        stop_grace=Duration(seconds=DEFAULT_GRACE_SECONDS),
        traceparent=traceparent,
    )
    if deployment is not None and deployment.spec.drain.HasField("deadline"):
        told.drain_deadline.CopyFrom(deployment.spec.drain.deadline)
    if deployment is not None and deployment.spec.drain.HasField("grace"):
        told.stop_grace.CopyFrom(deployment.spec.drain.grace)
    return told
