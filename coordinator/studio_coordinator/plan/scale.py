"""One deployment's replicas: place what it lacks, retire what it has too many, and replace an older revision.

A new revision comes up beside the old one (``rollout.surge``) and takes its place replica by replica as it serves. Where there is
no room for both, the old one goes first only if ``rollout.drain_first_allowed`` says so. A new revision that fails leaves the
old one serving. A lost replica is kept until another took its place: its host may bring it back, with its weights still warm.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from studio.v1.deployment_pb2 import Deployment
from studio.v1.event_pb2 import Event
from studio.v1.host_pb2 import Host
from studio.v1.recipe_pb2 import Recipe
from studio.v1.replica_pb2 import Replica

from studio_coordinator.plan.feasible import Books, gpu_need
from studio_coordinator.plan.place import Placed, place
from studio_coordinator.plan.worksheet import Worksheet


def wanted_replicas(deployment: Deployment) -> int:
    """How many replicas the deployment should have now; 1 where it does not say."""
    if deployment.stopped:
        return 0
    replicas = deployment.spec.replicas
    return replicas.min if replicas.HasField("min") else 1


@dataclass(frozen=True)
class Scaler:
    """Works on one deployment after another; ``books`` carries what earlier ones took."""

    sheet: Worksheet
    hosts: Sequence[Host]
    recipes: Mapping[tuple[str, int], Recipe]
    books: Books

    def scale(self, deployment: Deployment) -> None:
        """Bring one deployment's replicas to what it wants."""
        kept = self.sheet.of(deployment.name)
        wanted = wanted_replicas(deployment)
        if wanted == 0:
            reason = "its deployment was deleted" if deployment.state == Deployment.STATE_STOPPING else "it was stopped"
            for row in kept:
                self.sheet.retire(row, reason)
            return
        lost = [row for row in kept if row.state == Replica.STATE_LOST]
        present = [row for row in kept if row.state != Replica.STATE_LOST]
        new = [row for row in present if _is_target(row, deployment)]
        old = [row for row in present if not _is_target(row, deployment)]
        for row in least_useful(new)[: max(0, len(new) - wanted)]:
            self.sheet.retire(row, f"{deployment.name} wants {wanted} replica{'s' if wanted != 1 else ''}")
            new.remove(row)
        if sum(row.state == Replica.STATE_READY for row in present) >= wanted:
            for row in lost:
                self.sheet.retire(row, "it was replaced while its host was lost")
        self._retire_old(deployment, wanted, new, old)
        self._settle_waiting(deployment, new)
        self._add(deployment, wanted, new, old)

    def _retire_old(self, deployment: Deployment, wanted: int, new: Sequence[Replica], old: list[Replica]) -> None:
        """Retire replicas of an older revision that serve nobody, and as many as the new revision replaced."""
        target = f"r{deployment.target_revision}"
        for row in [row for row in old if not row.engine_ready]:
            # It may hold the very GPUs that its successor needs.
            self.sheet.retire(row, f"{target} takes its place, and it did not serve")
            old.remove(row)
        ready = sum(row.state == Replica.STATE_READY for row in new)
        for row in least_useful(old)[: max(0, ready + len(old) - wanted)]:
            self.sheet.retire(row, f"{target} took its place")
            old.remove(row)

    def _settle_waiting(self, deployment: Deployment, new: Sequence[Replica]) -> None:
        for row in new:
            if not row.host_id:
                self._settle(row, deployment)
            elif row.state == Replica.STATE_FAILED and row.generation <= deployment.tries:
                row.generation = deployment.tries + 1
                self.sheet.move(row, Replica.STATE_PENDING, "an operator had it tried anew")
                self.sheet.tell(row, "replica.retried", f"{row.id} is tried anew")

    def _add(self, deployment: Deployment, wanted: int, new: list[Replica], old: list[Replica]) -> None:
        """Start what is missing: all at once, or beside an older revision only as many as the surge allows."""
        missing = wanted - len(new)
        if old:
            coming = sum(row.state != Replica.STATE_READY for row in new)
            missing = min(missing, max(1, deployment.spec.rollout.surge) - coming)
        for _ in range(max(0, missing)):
            row = self._new_replica(deployment)
            new.append(row)
            self._settle(row, deployment)
        if old and deployment.spec.rollout.drain_first_allowed and any(not row.host_id for row in new):
            reason = f"there is no room for r{deployment.target_revision} beside it, and drain_first_allowed is set"
            self.sheet.retire(least_useful(old)[0], reason)

    def _new_replica(self, deployment: Deployment) -> Replica:
        taken = {*self.sheet.rows, *self.sheet.deleted}
        number = next(n for n in range(1, len(taken) + 2) if f"{deployment.name}-{n}" not in taken)
        recipe = self.recipes.get((deployment.spec.recipe, deployment.target_revision), Recipe())
        row = Replica(
            id=f"{deployment.name}-{number}",
            deployment=deployment.name,
            recipe_name=deployment.spec.recipe,
            recipe_revision=deployment.target_revision,
            state=Replica.STATE_PENDING,
            state_since=self.sheet.now,
            generation=deployment.tries + 1,
            engine=recipe.engine.name,
        )
        self.sheet.rows[row.id] = row
        return row

    def _settle(self, row: Replica, deployment: Deployment) -> None:
        """Give a replica a host, or say why it waits."""
        recipe = self.recipes.get((row.recipe_name, row.recipe_revision))
        if recipe is None:
            return
        found = place(deployment, recipe, self.hosts, self.books)
        if isinstance(found, Placed):
            row.host_id, row.host_name = found.host.id, found.host.name
            row.gpu_uuids[:] = found.gpu_uuids
            self.books.add(row, gpu_need(recipe).share)
            self.sheet.move(row, Replica.STATE_PENDING, f"placed on {found.host.name}: {found.reason}")
            self.sheet.tell(row, "replica.placed", f"{row.id} goes to {found.host.name}: {found.reason}")
        elif row.state_reason != found.reason:
            row.state_reason = found.reason
            self.sheet.tell(row, "replica.waiting", f"{row.id} waits: {found.reason}", Event.SEVERITY_WARNING)


def least_useful(rows: Sequence[Replica]) -> list[Replica]:
    """Rows in the order in which they are given up: not ready first, then the newest."""
    return sorted(rows, key=lambda row: (row.state == Replica.STATE_READY, -int(row.id.rpartition("-")[2])))


def _is_target(row: Replica, deployment: Deployment) -> bool:
    return row.recipe_name == deployment.spec.recipe and row.recipe_revision == deployment.target_revision
