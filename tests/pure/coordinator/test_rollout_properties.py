"""Whatever revisions are named, whichever of them are bad, whoever pauses or undoes: a rollout keeps its promises."""

from fakes.world import World, stamp
from google.protobuf.duration_pb2 import Duration
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from studio.v1.replica_pb2 import Replica
from studio_coordinator.plan.canary import Figures, Watched
from studio_coordinator.plan.reconcile import plan
from studio_coordinator.plan.rollout import (
    CANARY,
    DONE,
    MOVING,
    PAUSED,
    ROLLED_BACK,
    SURGE,
    Revision,
    moved,
    new_revision,
    old_revision,
    revision_of,
)

GOOD = Watched(400, Figures(300, 0, 300, 0.2), Figures(40, 0, 40, 0.2))
ERRS = Watched(400, Figures(300, 0, 300, 0.2), Figures(40, 20, 40, 0.2))
# What a revision is like: it serves, its engine does not start, or it answers with errors.
FATES = st.sampled_from(["good", "good", "fails", "errs"])
HOSTS = 3


class Rollouts(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World(hosts=HOSTS, gpus=2)
        self.fates = {1: "good"}
        self.wanted = 2

    @initialize(wanted=st.integers(1, 3), policy=st.sampled_from(["rollback", "pause"]), canary=st.booleans())
    def serve(self, wanted: int, policy: str, canary: bool) -> None:
        self.wanted, self.policy, self.canary = wanted, policy, canary
        self._name(1)
        self.world.settle()

    def _name(self, revision: int) -> None:
        deployment = self.world.deploy("chat", self.wanted, revision=revision)
        deployment.spec.rollout.on_failure = self.policy
        if self.canary:
            deployment.spec.rollout.canary.share = 0.2
            getattr(deployment.spec.rollout.canary, "for").CopyFrom(Duration(seconds=300))

    # -- operators -----------------------------------------------------------------------------------------------

    @rule(fate=FATES)
    def name_a_new_revision(self, fate: str) -> None:
        if fate == "errs" and not self.canary:
            fate = "good"
        number = len(self.fates) + 1
        self.fates[number] = fate
        self._name(number)

    @rule(data=st.data())
    def name_a_known_revision(self, data: st.DataObject) -> None:
        self._name(data.draw(st.sampled_from([number for number, fate in self.fates.items() if fate == "good"])))

    @precondition(lambda self: self._phase() in MOVING)
    @rule()
    def pause(self) -> None:
        self._order(PAUSED)

    @precondition(lambda self: self._phase() == PAUSED)
    @rule()
    def resume(self) -> None:
        self._order(self.world.deployments["chat"].rollout.paused_in)

    @precondition(lambda self: self._phase() in MOVING | {PAUSED, DONE} and self._goes_somewhere())
    @rule()
    def undo(self) -> None:
        self._order(ROLLED_BACK)

    @precondition(lambda self: self._phase() == ROLLED_BACK)
    @rule()
    def try_again(self) -> None:
        self._order(SURGE)

    def _phase(self) -> int:
        return self.world.deployments["chat"].rollout.phase if "chat" in self.world.deployments else 0

    def _goes_somewhere(self) -> bool:
        rollout = self.world.deployments["chat"].rollout
        return old_revision(rollout) != new_revision(rollout)

    def _order(self, phase: int) -> None:
        deployment = self.world.deployments["chat"]
        deployment.tries += 1
        deployment.rollout.CopyFrom(moved(deployment.rollout, phase, "ann said so", stamp(self.world.now), "ann"))

    # -- the fleet -----------------------------------------------------------------------------------------------

    @rule(number=st.integers(1, HOSTS))
    def obey(self, number: int) -> None:
        """One host takes its document up, and its engines do what their revision is like."""
        host = self.world.hosts[number - 1]
        document = self.world.assignments.get(host.host.id)
        if host.silent_since is not None or document is None:
            return
        if document.generation > host.assignment.generation:
            host.take(document)
        for item in host.assignment.replicas:
            if host.running[item.replica_id].state == Replica.STATE_STARTING:
                bad = self.fates[item.recipe_revision] == "fails"
                host.step(item.replica_id, Replica.STATE_FAILED if bad else Replica.STATE_READY)

    @rule()
    def acknowledge(self) -> None:
        self.world.acknowledged = self.world.table.version

    @rule(number=st.integers(1, HOSTS))
    def lose_a_host(self, number: int) -> None:
        if all(host.silent_since is None for host in self.world.hosts):
            self.world.silence(number)
            self.world.wait(700)

    @rule()
    def hosts_return(self) -> None:
        for number, host in enumerate(self.world.hosts, 1):
            if host.silent_since is not None:
                self.world.call_again(number)

    @rule()
    def one_pass(self) -> None:
        self._watch()
        before = {row.id: Replica.FromString(row.SerializeToString()) for row in self.world.replicas.values()}
        phase = self._phase()
        self.world.step()
        assert not plan(self.world.snapshot()).rollouts, "one pass leaves nothing of a rollout for the next"
        after = self.world.replicas
        ready = [row for row in after.values() if row.state == Replica.STATE_READY and not row.retiring]
        retired = [
            row
            for row in after.values()
            if row.retiring and not before.get(row.id, Replica()).retiring and row.engine_ready
        ]
        assert not retired or len(ready) >= self.wanted, "who serves goes only once enough others do"
        if phase == PAUSED == self._phase():
            tried = new_revision(self.world.deployments["chat"].rollout)
            begun = [row for row in after.values() if row.id not in before and revision_of(row) == tried]
            lost = [
                row for row in before.values() if row.host_id and after.get(row.id, row).state == Replica.STATE_LOST
            ]
            assert not begun or lost, "paused begins nothing"

    def _watch(self) -> None:
        # Gateways tell of a canary once it is one.
        self.world.watches = {}
        if self._phase() == CANARY:
            tried = self.world.deployments["chat"].rollout.to_revision
            self.world.watches = {"chat": ERRS if self.fates[tried] == "errs" else GOOD}

    @rule()
    def everything_comes_to_rest(self) -> None:
        self.hosts_return()
        for _ in range(60):
            for number in range(1, HOSTS + 1):
                self.obey(number)
            self.acknowledge()
            self._watch()
            if self.world.step().is_empty and not self._is_behind():
                break
        else:
            raise AssertionError(f"no rest: {self.world.events[-8:]}")
        self._check_rest()

    def _is_behind(self) -> bool:
        return any(
            self.world.assignments[host.host.id].generation > host.assignment.generation
            for host in self.world.hosts
            if host.host.id in self.world.assignments
        )

    def _check_rest(self) -> None:
        deployment, serving = self.world.deployments["chat"], self.world.endpoints("chat")
        named = self.fates[deployment.target_revision]
        served = {self.world.replicas[replica_id].recipe_revision for replica_id in serving}
        if not deployment.HasField("rollout"):
            assert len(serving) == self.wanted
            return
        rollout = deployment.rollout
        if rollout.reason.startswith("no replica of"):
            return
        assert len(serving) >= self.wanted
        assert "fails" not in {self.fates[number] for number in served}
        if rollout.phase == ROLLED_BACK:
            assert {Revision("chat", number) for number in served} == {old_revision(rollout)}
        elif rollout.phase == DONE:
            assert named == "good"
            assert {Revision("chat", number) for number in served} == {new_revision(rollout)}
        else:
            assert rollout.phase == PAUSED

    def teardown(self) -> None:
        if "chat" in self.world.deployments:
            self.everything_comes_to_rest()


def test_a_replica_that_returns_beside_its_replacement() -> None:
    """Found once: both engines answer, neither has its route yet, and one was retired while only two of three served."""
    state = Rollouts()
    state.serve(wanted=3, policy="rollback", canary=False)
    state.lose_a_host(number=2)
    state.one_pass()
    state.one_pass()
    state.obey(number=1)
    state.hosts_return()
    state.one_pass()
    assert len(state.world.endpoints("chat")) == HOSTS + 1
    state.teardown()
    assert len(state.world.endpoints("chat")) == HOSTS


TestRollouts = Rollouts.TestCase
TestRollouts.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
