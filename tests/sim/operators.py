"""Operators: they stop, scale, change revisions, steer rollouts and drain hosts, whenever it occurs to them."""

from typing import TYPE_CHECKING

from studio.v1.deployment_pb2 import Deployment
from studio.v1.host_pb2 import Host
from studio.v1.replica_pb2 import Replica
from studio_coordinator.plan.group import RESTART_BUDGET
from studio_coordinator.plan.rollout import phase_name

if TYPE_CHECKING:
    from sim.story import Story


class Operators:
    def __init__(self, story: "Story") -> None:
        self._story = story

    def act(self) -> None:
        if self._story.is_calm:
            self._start_who_gave_up()
            return
        if self._story.database.is_away:
            return
        name = self._story.chance.choice(list(self._story.database.rows.deployments))
        changed = Deployment()
        changed.CopyFrom(self._story.database.rows.deployments[name])
        draw = self._story.chance.random()
        if draw < 0.15:
            changed.stopped = not changed.stopped
        elif draw < 0.35:
            changed.spec.replicas.min = self._story.chance.randint(1, 2)
        elif draw < 0.6:
            changed.target_revision = self._story.revisions.new(name)
        elif draw < 0.8:
            self._story.revisions.steer(changed)
        elif draw < 0.9:
            self._drain_or_undrain_a_host()
            return
        else:
            return
        self._story.say(
            f"operator: {name} stopped={changed.stopped} replicas={changed.spec.replicas.min} "
            f"r{changed.target_revision} {phase_name(changed.rollout.phase)}"
        )
        self.write(changed)

    def write(self, changed: Deployment) -> None:
        changed.version += 1
        self._story.database.rows.deployments[changed.name] = changed

    def _start_who_gave_up(self) -> None:
        """`studio start` of replicas over several hosts whose restarts were spent on troubles that are over."""
        for row in self._story.database.rows.replicas.values():
            deployment = self._story.database.rows.deployments[row.deployment]
            gave_up = row.state == Replica.STATE_FAILED and row.restarts > RESTART_BUDGET
            if gave_up and row.generation > deployment.tries and not self._story.revisions.is_hopeless(deployment):
                changed = Deployment()
                changed.CopyFrom(deployment)
                changed.tries = max(deployment.tries + 1, row.generation)
                self._story.say(f"operator: studio start {deployment.name}")
                self.write(changed)

    def _drain_or_undrain_a_host(self) -> None:
        rows = self._story.database.rows
        draining = [host for host in rows.hosts.values() if host.draining]
        host = Host()
        host.CopyFrom(draining[0] if draining else self._story.chance.choice(list(rows.hosts.values())))
        # One at a time; and who vanished with others is left to the brake.
        if not draining and host.id in self._story.troubles.gone_together:
            return
        host.cordoned = host.draining = not draining
        self._story.say(f"operator: {host.name} draining={host.draining}")
        rows.hosts[host.id] = host
