"""A fleet in memory around the coordinator's pure plan: hosts that obey, gateways that acknowledge, and rows that are stored.

It is the smallest world in which a plan has consequences; nothing in it decides.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import inf

from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.agent_service_pb2 import ReplicaObservation
from studio.v1.assignment_pb2 import AssignedReplica, Assignment
from studio.v1.deployment_pb2 import Deployment
from studio.v1.host_pb2 import Gpu, Host
from studio.v1.recipe_pb2 import Recipe
from studio.v1.replica_pb2 import Replica
from studio.v1.route_pb2 import RouteTable
from studio_coordinator.plan.canary import Watched
from studio_coordinator.plan.ladder import Demand
from studio_coordinator.plan.on_demand import Activity
from studio_coordinator.plan.reconcile import plan
from studio_coordinator.plan.rollout import phase_name
from studio_coordinator.plan.sizing import Sizing
from studio_coordinator.plan.snapshot import HostObservation, Plan, Snapshot, Timers

START = datetime(2026, 1, 1, tzinfo=UTC)


def stamp(at: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(at)
    return timestamp


@dataclass
class SimulatedHost:
    """What an agent would do: take the newest document up, and report."""

    host: Host
    assignment: Assignment = field(default_factory=Assignment)
    running: dict[str, ReplicaObservation] = field(default_factory=dict)
    silent_since: datetime | None = None
    # None: before anything that the story tells.
    called_at: datetime | None = None

    def take(self, document: Assignment) -> None:
        assert document.generation > self.assignment.generation, "an assignment never goes back"
        self.assignment = document
        wanted = {item.replica_id: item for item in document.replicas}
        self.running = {name: seen for name, seen in self.running.items() if name in wanted}
        for name, item in wanted.items():
            if name not in self.running or self.running[name].generation != item.generation:
                self.running[name] = ReplicaObservation(
                    replica_id=name, generation=item.generation, state=Replica.STATE_STARTING, pid=1
                )

    def step(self, replica_id: str, state: "Replica.State.ValueType") -> None:
        seen = self.running[replica_id]
        seen.state = state
        seen.base_url = f"http://127.0.0.1:{20000 + len(replica_id)}"


class World:
    def __init__(self, hosts: int = 2, gpus: int = 2) -> None:
        self.now = START
        self.hosts = [self._host(number, gpus) for number in range(1, hosts + 1)]
        self.deployments: dict[str, Deployment] = {}
        self.recipes: dict[tuple[str, int], Recipe] = {}
        self.replicas: dict[str, Replica] = {}
        self.assignments: dict[str, Assignment] = {}
        self.table = RouteTable()
        self.acknowledged = 0
        self.events: list[str] = []
        self.sizes: dict[tuple[str, int], Sizing] = {}
        self.activities: dict[str, Activity] = {}
        self.demands: dict[str, Demand] = {}
        # What gateways saw of canaries, by deployment.
        self.watches: dict[str, Watched] = {}

    def _host(self, number: int, gpus: int) -> SimulatedHost:
        name = f"h{number}"
        devices = [
            Gpu(uuid=f"GPU-{name}-{index}", index=index, model="NVIDIA H100 80GB HBM3", memory_bytes=80 * 2**30)
            for index in range(gpus)
        ]
        host = Host(id=f"id-{name}", name=name, state=Host.STATE_CONNECTED, gpus=devices, last_seen=stamp(self.now))
        host.facts.features.append("groups")
        return SimulatedHost(host)

    def deploy(self, name: str, replicas: int = 1, gpus: int = 1, revision: int = 1, **spec: object) -> Deployment:
        recipe = Recipe(name=name)
        recipe.engine.name = "vllm"
        recipe.resources.gpu.count.value = gpus
        self.recipes[name, revision] = recipe
        deployment = Deployment(name=name, target_revision=revision, created_at=stamp(START))
        deployment.spec.name = deployment.spec.recipe = name
        deployment.spec.replicas.min = replicas
        for key, value in spec.items():
            setattr(deployment.spec, key, value)
        if name in self.deployments and self.deployments[name].HasField("rollout"):
            deployment.rollout.CopyFrom(self.deployments[name].rollout)
        self.deployments[name] = deployment
        return deployment

    def snapshot(self) -> Snapshot:
        observations = {}
        for simulated in self.hosts:
            silent = simulated.silent_since
            if silent is None:
                simulated.host.last_seen.CopyFrom(stamp(self.now))
            age = 0.0 if silent is None else (self.now - silent).total_seconds()
            # A stream that is silent for long is closed by the transport.
            if age < 60:
                called = simulated.called_at
                observations[simulated.host.id] = HostObservation(
                    1,
                    simulated.assignment.generation,
                    dict(simulated.running),
                    age,
                    inf if called is None else (self.now - called).total_seconds(),
                )
        return Snapshot(
            now=self.now,
            term=1,
            leading_for_seconds=1000,
            hosts=[simulated.host for simulated in self.hosts],
            observations=observations,
            deployments=list(self.deployments.values()),
            recipes=self.recipes,
            replicas=list(self.replicas.values()),
            assignments=self.assignments,
            table=self.table,
            acknowledged_version=self.acknowledged,
            timers=Timers(),
            sizes=self.sizes,
            activities=self.activities,
            demands=self.demands,
            watches=self.watches,
        )

    def store(self, decided: Plan) -> None:
        """What the loop's transaction does."""
        by_id = {simulated.host.id: simulated for simulated in self.hosts}
        for change in decided.host_changes:
            by_id[change.host_id].host.state = change.state
            by_id[change.host_id].host.state_reason = change.reason
        for row in (*decided.inserted, *decided.updated):
            self.replicas[row.id] = row
        for name in decided.deleted:
            del self.replicas[name]
        for name, rollout in decided.rollouts.items():
            self.deployments[name].rollout.CopyFrom(rollout)
        for name in decided.purged_deployments:
            del self.deployments[name]
        for rest in decided.rests:
            self.deployments[rest.deployment] = rest.applied(self.deployments[rest.deployment], stamp(self.now))
        self.assignments |= decided.assignments
        if decided.table is not None:
            assert decided.table.version == self.table.version + 1
            self.table = decided.table
        self.events += [event.message for event in decided.events]

    def step(self) -> Plan:
        """One pass of the loop."""
        decided = plan(self.snapshot())
        self.store(decided)
        return decided

    def obey(self) -> None:
        """Connected hosts take up their documents; what they start becomes ready; gateways acknowledge."""
        for simulated in self.hosts:
            document = self.assignments.get(simulated.host.id)
            if simulated.silent_since is None and document is not None:
                if document.generation > simulated.assignment.generation:
                    simulated.take(document)
                asleep = {item.replica_id for item in document.replicas if item.wish == AssignedReplica.WISH_SLEEP}
                for name, seen in simulated.running.items():
                    if seen.state in (Replica.STATE_STARTING, Replica.STATE_SLEEPING) and name not in asleep:
                        simulated.step(name, Replica.STATE_READY)
                    elif seen.state == Replica.STATE_READY and name in asleep:
                        simulated.step(name, Replica.STATE_SLEEPING)
        self.acknowledged = self.table.version

    def settle(self, passes: int = 40) -> None:
        """Run until nothing changes any more."""
        for _ in range(passes):
            self.obey()
            if self.step().is_empty:
                return
        raise AssertionError(f"the plan does not come to rest: {self.events[-10:]}")

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def silence(self, *numbers: int) -> None:
        for number in numbers:
            self.hosts[number - 1].silent_since = self.now

    def call_again(self, number: int) -> None:
        simulated = self.hosts[number - 1]
        simulated.silent_since, simulated.called_at = None, self.now
        # What a new session does at once.
        simulated.host.state = Host.STATE_CONNECTED

    def states(self) -> dict[str, str]:
        return {row.id: Replica.State.Name(row.state).removeprefix("STATE_") for row in self.replicas.values()}

    def phase(self, name: str) -> str:
        return phase_name(self.deployments[name].rollout.phase)

    def weights(self, name: str) -> dict[str, float]:
        return {
            end.replica_id: end.weight for route in self.table.routes if route.model == name for end in route.endpoints
        }

    def endpoints(self, name: str) -> list[str]:
        return [end.replica_id for route in self.table.routes if route.model == name for end in route.endpoints]
