"""Frames folded into what the agent knows."""

import pytest
from studio.v1.event_pb2 import Event
from studio.v1.host_pb2 import Gpu, GpuFigures, Host, HostFacts
from studio_agent.gpu.frames import Frame
from studio_agent.gpu.health import DEGRADED, HEALTHY, QUARANTINED, GpuHealth
from studio_agent.gpu.picture import MOST_EVENTS, GpuPicture
from studio_agent.gpu.reading import Condition, RecoveryAction, Xid

NOW = 1_700_000_000.0


def a_gpu(uuid: str, index: int = 0, watts: float | None = 50.0, **facts: object) -> Gpu:
    gpu = Gpu(uuid=uuid, index=index, **facts)
    if watts is not None:
        gpu.figures.CopyFrom(GpuFigures(power_watts=watts))
    return gpu


def a_frame(*gpus: Gpu, conditions: list[Condition] | None = None, xids: tuple[Xid, ...] = ()) -> Frame:
    if conditions is None:
        conditions = [Condition(gpu.uuid, recovery_action=0) for gpu in gpus if not gpu.parent_uuid]
    return Frame(Host(facts=HostFacts(gpu_driver="580"), gpus=gpus), tuple(conditions), (), xids)


def test_facts_carry_health_and_no_figures_and_stand_by_index():
    picture = GpuPicture({})
    assert picture.take(a_frame(a_gpu("GPU-b", 1), a_gpu("GPU-a", 0)), NOW)
    assert [gpu.uuid for gpu in picture.gpus()] == ["GPU-a", "GPU-b"]
    assert all(gpu.health == HEALTHY and not gpu.HasField("figures") for gpu in picture.gpus())
    assert picture.driver_version == "580"
    assert not picture.take(a_frame(a_gpu("GPU-b", 1, 60.0), a_gpu("GPU-a", 0, 70.0)), NOW)
    assert picture.figures(stale=False)["GPU-a"].power_watts == 70.0


def test_the_last_figures_of_a_gpu_that_could_not_be_read_stay_and_are_stale():
    picture = GpuPicture({})
    picture.take(a_frame(a_gpu("GPU-a"), a_gpu("GPU-b", 1)), NOW)
    lost = [Condition("GPU-a", lost="GPU is lost"), Condition("GPU-b", recovery_action=0)]
    picture.take(a_frame(a_gpu("GPU-a", watts=None), a_gpu("GPU-b", 1), conditions=lost), NOW)
    figures = picture.figures(stale=False)
    assert (figures["GPU-a"].power_watts, figures["GPU-a"].stale) == (50.0, True)
    assert not figures["GPU-b"].stale
    assert [gpu.health for gpu in picture.gpus()] == [QUARANTINED, HEALTHY]


def test_a_gpu_that_a_new_child_does_not_list_is_quarantined_and_not_forgotten():
    picture = GpuPicture({})
    picture.take(a_frame(a_gpu("GPU-a"), a_gpu("GPU-b", 1)), NOW)
    picture.take(a_frame(a_gpu("GPU-b", 0)), NOW)
    gone = next(gpu for gpu in picture.gpus() if gpu.uuid == "GPU-a")
    assert gone.health == QUARANTINED
    assert picture.figures(stale=False)["GPU-a"].stale


def test_a_quarantine_from_the_last_run_stays_until_a_recheck():
    kept = GpuHealth(QUARANTINED, "XID 79", kept=True)
    picture = GpuPicture({"GPU-a": kept})
    picture.take(a_frame(a_gpu("GPU-a")), NOW)
    assert (picture.gpus()[0].health, picture.gpus()[0].health_reason) == (QUARANTINED, "XID 79")
    assert picture.take_events() == []
    assert picture.recheck("GPU-a", NOW) == GpuHealth()
    assert picture.gpus()[0].health == HEALTHY
    assert [event.kind for event in picture.take_events()] == ["gpu.healthy"]
    with pytest.raises(KeyError):
        picture.recheck("GPU-unknown", NOW)


def test_the_verdict_on_a_gpu_that_was_taken_out_is_dropped_by_a_recheck():
    picture = GpuPicture({"GPU-old": GpuHealth(QUARANTINED, "XID 79", kept=True)})
    picture.take(a_frame(a_gpu("GPU-new")), NOW)
    picture.recheck("GPU-old", NOW)
    assert set(picture.health) == {"GPU-new"}


def test_an_xid_is_told_once_with_whose_fault_it_is():
    picture = GpuPicture({})
    xids = (Xid("GPU-a", 31, NOW - 1), Xid("GPU-a", 94, NOW))
    picture.take(a_frame(a_gpu("GPU-a"), a_gpu("GPU-b", 1), xids=xids), NOW)
    tenant, contained, degraded = picture.take_events()
    assert (tenant.kind, tenant.reason, tenant.attributes["xid"]) == ("gpu.xid", "tenant", "31")
    assert tenant.at.ToSeconds() == NOW - 1
    assert (contained.reason, contained.severity) == ("contained", Event.SEVERITY_WARNING)
    assert (degraded.kind, degraded.attributes["gpu"]) == ("gpu.degraded", "GPU-a")
    assert [gpu.health for gpu in picture.gpus()] == [DEGRADED, HEALTHY]
    picture.take(a_frame(a_gpu("GPU-a"), a_gpu("GPU-b", 1)), NOW)
    assert picture.take_events() == []


def test_a_partitioned_gpu_is_replaced_by_its_instances_which_share_its_health():
    picture = GpuPicture({})
    whole, part = a_gpu("GPU-a"), a_gpu("MIG-1", parent_uuid="GPU-a")
    condition = Condition("GPU-a", partitioned=True, recovery_action=RecoveryAction.GPU_RESET)
    picture.take(a_frame(whole, part, conditions=[condition]), NOW)
    assert [(gpu.uuid, gpu.health) for gpu in picture.gpus()] == [("MIG-1", QUARANTINED)]
    assert set(picture.figures(stale=False)) == {"GPU-a", "MIG-1"}
    mended = Condition("GPU-a", partitioned=True, recovery_action=RecoveryAction.NONE)
    picture.take(a_frame(whole, part, conditions=[mended]), NOW)
    assert picture.recheck("MIG-1", NOW).health == HEALTHY
    assert [(gpu.uuid, gpu.health) for gpu in picture.gpus()] == [("MIG-1", HEALTHY)]
    picture.take(a_frame(whole, conditions=[mended]), NOW)
    assert picture.gpus() == []


def test_events_are_bounded_and_the_newest_stay():
    picture = GpuPicture({})
    for number in range(MOST_EVENTS + 5):
        picture.report(Event(kind=str(number)), NOW)
    taken = picture.take_events()
    assert len(taken) == MOST_EVENTS
    assert taken[-1].kind == str(MOST_EVENTS + 4)
