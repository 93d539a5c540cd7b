"""Stories by seed keep every promise; and with one defence taken away, some story breaks the promise that it is there for."""

import os
from collections.abc import Callable

import pytest
from studio.v1.replica_pb2 import Replica
from studio_coordinator.plan import group, hosts, ladder, reconcile, rollout
from studio_coordinator.plan.canary import Verdict
from studio_coordinator.plan.snapshot import Snapshot

from sim.promises import BrokenPromiseError
from sim.story import tell

SEEDS = int(os.environ.get("SEEDS", "500"))
FIRST_SEED = int(os.environ.get("FIRST_SEED", "0"))
AT_ONCE = 25
# Stories until one must have broken a promise.
PATIENCE = 400


@pytest.mark.parametrize("first", range(FIRST_SEED, FIRST_SEED + SEEDS, AT_ONCE))
def test_every_promise_is_kept(first: int) -> None:
    for seed in range(first, min(first + AT_ONCE, FIRST_SEED + SEEDS)):
        tell(seed)


def test_the_same_seed_gives_the_same_story() -> None:
    first, second = tell(11), tell(11)
    assert first.log == second.log
    assert first.database.rows == second.database.rows


def broken(tell_one: Callable[[int], None]) -> str:
    for seed in range(PATIENCE):
        try:
            tell_one(seed)
        except BrokenPromiseError as error:
            return str(error)
    return ""


def test_without_the_check_of_the_lease_s_epoch_a_deposed_leader_writes() -> None:
    assert "wrote while term" in broken(lambda seed: tell(seed, checks_epoch=False))


def test_without_the_agents_fence_a_host_obeys_an_older_term() -> None:
    assert "went back from term" in broken(lambda seed: tell(seed, fences_terms=False))


def test_without_the_brake_hosts_that_vanish_together_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "held_by_brake", lambda _snapshot: frozenset())
    assert "was given up with many others" in broken(tell)


def test_without_withdrawing_first_an_engine_is_stopped_while_requests_go_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reconcile, "_withdrawn", lambda _snapshot, rows: {row.id for row in rows if row.retiring})
    assert "was stopped while" in broken(tell)


def test_without_withdrawing_first_an_engine_sleeps_while_requests_go_there(monkeypatch: pytest.MonkeyPatch) -> None:
    withdrawn = reconcile._withdrawn

    def at_once(snapshot: Snapshot, rows: list[Replica]) -> set[str]:
        return withdrawn(snapshot, rows) | {row.id for row in rows if row.sleep_level}

    monkeypatch.setattr(reconcile, "_withdrawn", at_once)
    assert "was put to sleep while" in broken(tell)


def test_without_looking_at_demand_a_model_sleeps_on_while_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "_awake", lambda _deployment, _demand, _now: None)
    assert "is asked for, and rests" in broken(tell)


def test_without_beginning_a_group_anew_as_a_whole_its_parts_wait_for_one_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(group, "_broken", lambda _replica, _row, _snapshot: None)
    assert "wide" in broken(lambda seed: tell(seed, ["wide", "chat"]))


def test_without_judging_canaries_a_bad_revision_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout, "judge", lambda _policy, _watched: (Verdict.HEALTHY, "not looked at"))
    assert "which answers with errors" in broken(tell)


def test_without_seeing_failed_starts_a_rollout_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout, "_gave_up", lambda _row, _deployment: False)
    assert "never ends" in broken(tell)
