"""The verdict on a GPU: which evidence counts, and what stays."""

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st
from studio_agent.gpu import health as health_module
from studio_agent.gpu.health import (
    ACTIONS,
    DEGRADED,
    HEALTHY,
    QUARANTINED,
    TRANSITIONS,
    GpuHealth,
    health,
    meaning_of,
    recheck,
)
from studio_agent.gpu.reading import Condition, RecoveryAction, Xid
from studio_agent.gpu.xids import XIDS, Fault

UUID = "GPU-a"
GOOD = Condition(UUID, recovery_action=0, remap_pending=False, remap_failed=False)

conditions = st.builds(
    Condition,
    uuid=st.just(UUID),
    lost=st.sampled_from(["", "GPU is lost"]),
    recovery_action=st.none() | st.integers(0, 12),
    remap_pending=st.none() | st.booleans(),
    remap_failed=st.none() | st.booleans(),
)
xids = st.lists(st.builds(Xid, uuid=st.just(UUID), number=st.integers(1, 200), at=st.just(0.0)), max_size=4)
evidence = st.lists(st.tuples(conditions, xids), max_size=8)


def an_xid(number: int) -> Xid:
    return Xid(UUID, number, 0.0)


def test_a_gpu_without_evidence_against_it_is_healthy():
    assert health(GpuHealth(), GOOD) == GpuHealth()
    assert health(GpuHealth(), Condition(UUID)).health == HEALTHY


@pytest.mark.parametrize("action", [action for action in RecoveryAction if action is not RecoveryAction.NONE])
def test_the_drivers_recovery_action_quarantines_and_is_named(action: RecoveryAction):
    verdict = health(GpuHealth(), Condition(UUID, recovery_action=action))
    assert verdict.health == QUARANTINED
    assert ACTIONS[action] in verdict.reason


def test_a_recovery_action_newer_than_this_version_quarantines():
    verdict = health(GpuHealth(), Condition(UUID, recovery_action=99))
    assert verdict.health == QUARANTINED
    assert "99" in verdict.reason


@pytest.mark.parametrize("number", [13, 31, 43, 45, 68, 109])
def test_an_applications_own_xid_leaves_the_gpu_alone(number: int):
    assert XIDS[number].fault is Fault.TENANT
    assert health(GpuHealth(), Condition(UUID), [an_xid(number)]).health == HEALTHY


@pytest.mark.parametrize("number", [48, 64, 74, 79, 95, 119])
def test_a_device_xid_quarantines_with_its_name(number: int):
    verdict = health(GpuHealth(), GOOD, [an_xid(number)])
    assert verdict.health == QUARANTINED
    assert f"XID {number}, {XIDS[number].name}" in verdict.reason


def test_the_worst_of_several_xids_decides():
    assert health(GpuHealth(), GOOD, [an_xid(13), an_xid(94)]).health == DEGRADED
    assert health(GpuHealth(), GOOD, [an_xid(94), an_xid(79), an_xid(13)]).health == QUARANTINED


def test_an_unknown_xid_is_the_devices_fault_unless_the_driver_sees_nothing_to_recover():
    assert 999 not in XIDS
    assert health(GpuHealth(), Condition(UUID), [an_xid(999)]).health == QUARANTINED
    assert health(GpuHealth(), GOOD, [an_xid(999)]).health == DEGRADED
    assert meaning_of(999, None).fault is Fault.DEVICE


def test_rows_that_wait_for_remapping_degrade_until_they_are_remapped():
    pending = health(GpuHealth(), Condition(UUID, remap_pending=True))
    assert pending.health == DEGRADED
    assert health(pending, GOOD).health == HEALTHY


def test_a_degradation_by_an_xid_stays_but_gives_way_to_worse():
    degraded = health(GpuHealth(), GOOD, [an_xid(94)])
    assert health(degraded, GOOD) == degraded
    assert health(degraded, Condition(UUID, remap_failed=True)).health == QUARANTINED


def test_a_lost_gpu_stays_quarantined_when_it_answers_again_until_it_is_rechecked():
    lost = health(GpuHealth(), Condition(UUID, lost="GPU is lost"))
    assert lost.health == QUARANTINED
    assert "GPU is lost" in lost.reason
    assert health(lost, GOOD) == lost
    assert recheck(GOOD).health == HEALTHY


def test_a_recheck_does_not_overlook_what_can_still_be_read():
    assert recheck(Condition(UUID, recovery_action=RecoveryAction.GPU_RESET)).health == QUARANTINED


@given(evidence)
def test_evidence_causes_only_the_listed_transitions(steps: list[tuple[Condition, list[Xid]]]):
    verdict = GpuHealth()
    for condition, reported in steps:
        after = health(verdict, condition, reported)
        assert after.health == verdict.health or (verdict.health, after.health) in TRANSITIONS
        assert (after.reason == "") == (after.health == HEALTHY)
        verdict = after


@given(evidence)
def test_nothing_that_happens_ends_a_quarantine(steps: list[tuple[Condition, list[Xid]]]):
    quarantined = health(GpuHealth(), Condition(UUID, lost="GPU is lost"))
    verdict = quarantined
    for condition, reported in steps:
        verdict = health(verdict, condition, reported)
    assert verdict == quarantined


def test_the_diagram_names_every_state_of_the_table():
    diagram = inspect.getdoc(health_module) or ""
    for word in ("HEALTHY", "DEGRADED", "QUARANTINED"):
        assert word in diagram
    states = {state for edge in TRANSITIONS for state in edge}
    assert states == {HEALTHY, DEGRADED, QUARANTINED}
    assert not any(before == QUARANTINED for before, _ in TRANSITIONS)
