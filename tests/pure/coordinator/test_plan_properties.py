"""Whatever operators, hosts and gateways do, in whatever order: the plan keeps its promises."""

from collections import Counter

from fakes.world import World
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from studio.v1.deployment_pb2 import Rollout
from studio.v1.host_pb2 import Host
from studio.v1.replica_pb2 import Replica
from studio_coordinator.plan import hosts as host_states
from studio_coordinator.plan import lifecycle, rollout
from studio_coordinator.plan.course import kept_revision
from studio_coordinator.plan.members import parts, parts_held
from studio_coordinator.plan.reconcile import plan
from studio_coordinator.plan.rollout import named_revision, revision_of

NAMES = st.sampled_from(["chat", "embed", "big"])
HOSTS = 4


class Fleet(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World(hosts=HOSTS, gpus=2)
        self.before: dict[str, int] = {}

    @rule(name=NAMES, replicas=st.integers(0, 4), gpus=st.integers(0, 2), revision=st.integers(1, 3))
    def deploy(self, name: str, replicas: int, gpus: int, revision: int) -> None:
        self.world.deploy(name, replicas, gpus, revision)

    @rule(name=NAMES, gpus=st.integers(0, 2), revision=st.integers(1, 3))
    def deploy_over_hosts(self, name: str, gpus: int, revision: int) -> None:
        self.world.deploy(name, 1, gpus, revision)
        self.world.recipes[name, revision].resources.hosts = 2

    @rule(name=NAMES)
    def stop(self, name: str) -> None:
        if name in self.world.deployments:
            self.world.deployments[name].stopped = True

    @rule(number=st.integers(1, HOSTS))
    def fall_silent(self, number: int) -> None:
        if self.world.hosts[number - 1].silent_since is None:
            self.world.silence(number)

    @rule(number=st.integers(1, HOSTS))
    def call_again(self, number: int) -> None:
        if self.world.hosts[number - 1].silent_since is not None:
            self.world.call_again(number)

    @rule(seconds=st.sampled_from([1.0, 11.0, 30.0, 700.0]))
    def wait(self, seconds: float) -> None:
        self.world.wait(seconds)

    @rule(number=st.integers(1, HOSTS))
    def take_up(self, number: int) -> None:
        host = self.world.hosts[number - 1]
        document = self.world.assignments.get(host.host.id)
        newer = document is not None and document.generation > host.assignment.generation
        if newer and host.silent_since is None:
            host.take(document)

    @rule(number=st.integers(1, HOSTS), state=st.sampled_from([Replica.STATE_READY, Replica.STATE_FAILED]))
    def engines_move(self, number: int, state: "Replica.State.ValueType") -> None:
        host = self.world.hosts[number - 1]
        for name in host.running:
            host.step(name, state)

    @rule()
    def acknowledge(self) -> None:
        self.world.acknowledged = self.world.table.version

    @rule()
    def one_pass(self) -> None:
        routed = {end.replica_id for route in self.world.table.routes for end in route.endpoints}
        everyone_has_it = self.world.acknowledged >= self.world.table.version
        assigned = {item.replica_id for doc in self.world.assignments.values() for item in doc.replicas}
        placed_before = {row.id: row.deployment for row in self.world.replicas.values() if row.host_id}
        self.world.step()
        taken_away = assigned - {item.replica_id for doc in self.world.assignments.values() for item in doc.replicas}
        assert not taken_away & routed, "withdrawn first, stopped after"
        assert not taken_away or everyone_has_it, "withdrawn means: at every gateway"
        for row in self.world.replicas.values():
            if row.id not in placed_before and row.host_id:
                assert not self.world.deployments[row.deployment].stopped, "stopped means: never placed"
                host = next(item.host for item in self.world.hosts if item.host.id == row.host_id)
                assert host.state == Host.STATE_CONNECTED

    @invariant()
    def no_gpu_is_promised_twice(self) -> None:
        rows = self.world.replicas.values()
        promised = Counter(uuid for row in rows for _, uuids in parts_held(row) for uuid in uuids)
        assert all(count == 1 for count in promised.values())

    @invariant()
    def a_replica_over_hosts_is_told_to_all_of_them_or_to_none(self) -> None:
        for row in self.world.replicas.values():
            if not row.members:
                continue
            told = {
                host_id: item
                for host_id, document in self.world.assignments.items()
                for item in document.replicas
                if item.replica_id == row.id
            }
            places = [part.host_id for part in parts(row)]
            assert len(set(places)) == len(places), "each part has a host of its own"
            assert not told or sorted(told) == sorted(places)
            assert not told or [told[host_id].group.rank for host_id in places] == list(range(len(places)))
            meetings = {(item.generation, item.group.size, item.group.leader_port) for item in told.values()}
            assert len(meetings) <= 1, "all of them meet in one place, in one generation"

    @invariant()
    def planning_is_a_function(self) -> None:
        snapshot = self.world.snapshot()
        assert plan(snapshot) == plan(snapshot)

    @precondition(lambda self: len(self.world.deployments) > 0)
    @rule()
    def everything_comes_to_rest(self) -> None:
        for number in range(1, HOSTS + 1):
            self.call_again(number)
        self.world.settle()
        for deployment in self.world.deployments.values():
            rows = [row for row in self.world.replicas.values() if row.deployment == deployment.name]
            wanted = 0 if deployment.stopped else deployment.spec.replicas.min
            expected = kept_revision(deployment) or named_revision(deployment)
            target = [row for row in rows if revision_of(row) == expected]
            # Beside an older revision only as many are started as there is room for, and none more while one of them fails.
            stuck = any(not row.host_id or row.state == Replica.STATE_FAILED for row in target)
            assert len(target) == wanted or stuck
            ready = [row.id for row in rows if row.state == Replica.STATE_READY]
            assert sorted(ready) == sorted(self.world.endpoints(deployment.name))

    def teardown(self) -> None:
        for number in range(1, HOSTS + 1):
            self.call_again(number)
        self.world.settle()


TestFleet = Fleet.TestCase
TestFleet.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def test_every_state_of_the_contract_is_in_its_table_and_its_diagram() -> None:
    for table, module, enum, prefix in (
        (lifecycle.TRANSITIONS, lifecycle, Replica.State, "STATE_"),
        (host_states.TRANSITIONS, host_states, Host.State, "STATE_"),
        (rollout.TRANSITIONS, rollout, Rollout.Phase, "PHASE_"),
    ):
        names = {name.removeprefix(prefix) for name, number in enum.items() if number}
        assert {enum.Name(state).removeprefix(prefix) for state in table} - {"UNSPECIFIED"} == names
        assert all(name in (module.__doc__ or "") for name in names)
