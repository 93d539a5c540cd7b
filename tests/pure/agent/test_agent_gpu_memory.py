"""What an engine that is gone has left on its GPUs, and what is not its doing."""

from hypothesis import given
from hypothesis import strategies as st
from studio.v1.host_pb2 import GpuFigures, GpuProcess
from studio_agent.plan.gpu_memory import NEAR_BYTES, Remains, remains_of, sentence, unowned_bytes, use_by_replica

GIB = 1 << 30
GPU = "GPU-0"
OURS = 100


def process(pid: int, gib: float | None, replica: str = "") -> GpuProcess:
    return GpuProcess(pid=pid, memory_used_bytes=None if gib is None else int(gib * GIB), replica_id=replica)


def figures(gib: float | None, *processes: GpuProcess, stale: bool = False) -> GpuFigures:
    return GpuFigures(memory_used_bytes=None if gib is None else int(gib * GIB), processes=processes, stale=stale)


def left(before_gib: float | None, now: GpuFigures) -> list[Remains] | None:
    before = {} if before_gib is None else {GPU: int(before_gib * GIB)}
    return remains_of("demo-1", {OURS}, before, [GPU], {GPU: now})


def test_memory_that_is_back_is_free_even_while_the_dead_process_is_listed() -> None:
    assert left(1, figures(1.2, process(OURS, 20))) == []


def test_memory_that_nobody_holds_is_held_by_the_engine() -> None:
    found = left(1, figures(21))
    assert found == [Remains(GPU, 20 * GIB)]
    assert sentence(found) == "20.0 GiB on GPU GPU-0 is held by nobody"


def test_a_dead_process_that_is_listed_with_its_memory_is_named() -> None:
    found = left(1, figures(21, process(OURS, 20)))
    assert found == [Remains(GPU, 20 * GIB, (OURS,))]
    assert "process 100" in sentence(found)


def test_what_others_took_meanwhile_is_theirs() -> None:
    assert left(1, figures(18, process(7, 17))) == []
    assert left(1, figures(18, process(8, 17, "other-1"))) == []


def test_where_others_do_not_tell_only_the_list_counts() -> None:
    assert left(1, figures(18, process(7, None))) == []
    assert left(1, figures(18, process(7, None), process(OURS, None))) == [Remains(GPU, None, (OURS,))]


def test_what_is_not_known_is_not_said() -> None:
    assert left(1, figures(None)) == []
    assert left(None, figures(21)) == []
    assert left(1, figures(21, stale=True)) is None
    assert remains_of("demo-1", {OURS}, {GPU: 0}, [GPU], {}) == []


def test_memory_before_a_start_counts_what_no_live_process_holds() -> None:
    seen = figures(10, process(7, 3), process(8, 4))
    assert unowned_bytes(seen, lambda _pid: True) == 3 * GIB
    # A process that is gone is listed for a while: taking its memory away would make too little of what is in use.
    assert unowned_bytes(seen, lambda pid: pid == 7) == 7 * GIB
    assert unowned_bytes(figures(1, process(7, 3)), lambda _pid: True) == 0
    assert unowned_bytes(figures(10, stale=True), lambda _pid: True) is None
    assert unowned_bytes(figures(None), lambda _pid: True) is None


gib = st.floats(0, 80)
strangers = st.lists(gib, max_size=4).map(lambda sizes: [process(1000 + n, size) for n, size in enumerate(sizes)])


@given(gib, gib, strangers, strangers)
def test_strangers_are_never_blamed_and_what_stays_is_always_seen(
    driver: float, held: float, before: list[GpuProcess], now: list[GpuProcess]
) -> None:
    """The driver itself uses ``driver`` GiB throughout, strangers come and go, and ``held`` GiB are left of the engine."""
    used_before = driver + sum(p.memory_used_bytes for p in before) / GIB
    used_now = driver + held + sum(p.memory_used_bytes for p in now) / GIB
    unowned = unowned_bytes(figures(used_before, *before), lambda _pid: True)
    found = remains_of("demo-1", {OURS}, {GPU: unowned or 0}, [GPU], {GPU: figures(used_now, *now)})
    rounding = 16
    if held * GIB > NEAR_BYTES + rounding:
        assert found
    elif held * GIB < NEAR_BYTES - rounding:
        assert found == []


def test_an_engine_uses_what_its_processes_use_of_the_fullest_gpu() -> None:
    now = {
        "GPU-0": figures(
            30, process(1, 10, "chat-1"), process(2, 2, "chat-1"), process(3, 5, "other-1"), process(4, 9)
        ),
        "GPU-1": figures(30, process(5, 11, "chat-1"), process(6, None, "hidden-1"), process(7, 1, "hidden-1")),
        "GPU-2": figures(30, process(8, 1, "old-1"), stale=True),
    }
    assert use_by_replica(now) == {"chat-1": 12 * GIB, "other-1": 5 * GIB}
