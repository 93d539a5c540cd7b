"""What the plan looks at, and what it answers. Messages of the contract are treated as values: never changed in place."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import inf

from studio.v1.agent_service_pb2 import ReplicaObservation
from studio.v1.assignment_pb2 import Assignment
from studio.v1.deployment_pb2 import Deployment, Rollout
from studio.v1.event_pb2 import Event
from studio.v1.host_pb2 import Host
from studio.v1.recipe_pb2 import Recipe
from studio.v1.replica_pb2 import Replica
from studio.v1.route_pb2 import ProviderRoute, RouteTable

from studio_coordinator.plan.canary import Watched
from studio_coordinator.plan.ladder import Demand, RestChange
from studio_coordinator.plan.on_demand import Activity
from studio_coordinator.plan.shape import Shape
from studio_coordinator.plan.sizing import Sizing


@dataclass(frozen=True)
class HostObservation:
    """What a host's open session last said."""

    session_epoch: int
    # Of the assignment that the agent has persisted.
    applied_generation: int
    replicas: Mapping[str, ReplicaObservation]
    # Age of the last heartbeat, by the coordinator's monotonic clock.
    heartbeat_age_seconds: float
    # Since the host called.
    session_age_seconds: float = inf


@dataclass(frozen=True)
class Timers:
    """Limits in seconds."""

    heartbeat_interval: float = 5.0
    lease: float = 25.0
    lost_after: float = 600.0
    # How long a host that has not called yet keeps its stored state after a leader took over.
    leader_grace: float = 300.0
    # How long gateways have to find a new leader before it takes those that did for all there are: they notice a frozen one by
    # their keep-alive, after 30 s, of which a lease is over already.
    gateway_grace: float = 30.0


@dataclass(frozen=True)
class Snapshot:
    """Everything that one pass decides on."""

    now: datetime
    term: int
    # Seconds since this leader began to lead.
    leading_for_seconds: float
    hosts: Sequence[Host]
    observations: Mapping[str, HostObservation]
    deployments: Sequence[Deployment]
    recipes: Mapping[tuple[str, int], Recipe]
    replicas: Sequence[Replica]
    assignments: Mapping[str, Assignment]
    table: RouteTable
    # Lowest table version that every known gateway has in force; None when no gateway is known.
    acknowledged_version: int | None
    providers: Sequence[ProviderRoute] = ()
    # Trace context of the last change of each deployment.
    traceparents: Mapping[str, str] = field(default_factory=dict)
    timers: Timers = Timers()
    # Host id to the names of the model weights there (`wish.weights_key`); unknown where a host is missing.
    models_on_hosts: Mapping[str, Collection[str]] = field(default_factory=dict)
    # Host id to what placement sees of each host, worked out for the messages in `hosts`.
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    # What each recipe revision takes of a GPU, by name and revision; what is missing is unknown.
    sizes: Mapping[tuple[str, int], Sizing] = field(default_factory=dict)
    # What each replica has been doing, by id.
    activities: Mapping[str, Activity] = field(default_factory=dict)
    # What the gateways see of each deployment, by name; what is missing is not known, and none of it goes to rest.
    demands: Mapping[str, Demand] = field(default_factory=dict)
    # What the gateways saw of canaries, by deployment.
    watches: Mapping[str, Watched] = field(default_factory=dict)


@dataclass(frozen=True)
class HostChange:
    """A host's state is to be stored."""

    host_id: str
    state: Host.State.ValueType
    reason: str


@dataclass(frozen=True)
class Plan:
    """What to store and publish. Empty when the world is as it should be."""

    host_changes: Sequence[HostChange] = ()
    inserted: Sequence[Replica] = ()
    updated: Sequence[Replica] = ()
    deleted: Sequence[str] = ()
    purged_deployments: Sequence[str] = ()
    assignments: Mapping[str, Assignment] = field(default_factory=dict)
    table: RouteTable | None = None
    events: Sequence[Event] = ()
    # Deployments of which a replica makes room for one that is wanted.
    made_way: Sequence[str] = ()
    # How deep deployments rest from now on.
    rests: Sequence[RestChange] = ()
    # Rollouts that moved, by deployment.
    rollouts: Mapping[str, Rollout] = field(default_factory=dict)
    # Replicas that stay though nothing wants them, by host: stopping so many at once would be a mistake.
    held_back: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Nothing to do."""
        return not (
            self.host_changes
            or self.inserted
            or self.updated
            or self.deleted
            or self.purged_deployments
            or self.rollouts
            or self.assignments
            or self.table is not None
            or self.events
            or self.rests
        )
