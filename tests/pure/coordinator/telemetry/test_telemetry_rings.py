"""Rings: what was put in comes out, in steps; gaps are gaps; rollups say what the seconds said."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from studio.v1.agent_service_pb2 import ReportTelemetryRequest
from studio.v1.host_pb2 import GpuFigures
from studio_coordinator.telemetry import rings as rings_module
from studio_coordinator.telemetry.block import ROWS, OpenBlock
from studio_coordinator.telemetry.fields import GPU, KINDS, UNKNOWN
from studio_coordinator.telemetry.layout import Layout, Series
from studio_coordinator.telemetry.ring import KEPT_SECONDS, Ring
from studio_coordinator.telemetry.rings import Rings
from studio_coordinator.telemetry.rollup import COARSE_SECONDS, FINE_SECONDS, Rollup
from studio_runtime.errors import InvalidError

START = 1_700_000_040 - 1_700_000_040 % 60


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


def a_report(busy: float = 0.5, *uuids: str) -> ReportTelemetryRequest:
    report = ReportTelemetryRequest()
    report.host.cpu_share = 0.25
    for uuid in uuids or ("GPU-1",):
        report.gpus[uuid].utilization_share = busy
    return report


def seconds_of(ring: Ring, series: Series) -> dict[int, float]:
    found = {}
    for block in ring.blocks():
        place = block.layout.place(series)
        for second, row in enumerate(block.rows(0, ROWS), block.start):
            if place is not None and row[place] != UNKNOWN:
                found[second] = row[place] * block.layout.fields[place].step
    return found


BUSY = Series("gpu", "GPU-1", "utilization_share")


@given(st.lists(st.none() | st.floats(0, 1), min_size=1, max_size=200))
@settings(max_examples=60)
def test_every_second_comes_out_as_it_went_in_and_gaps_stay_gaps(values: list[float | None]) -> None:
    ring = Ring("h1", lambda _: None)
    for second, value in enumerate(values, START):
        if value is not None:
            ring.put(second, a_report(value))
    assert seconds_of(ring, BUSY) == {
        second: pytest.approx(value, abs=0.005) for second, value in enumerate(values, START) if value is not None
    }


def test_no_more_is_kept_than_a_quarter_of_an_hour_and_the_minute_that_fills() -> None:
    ring = Ring("h1", lambda _: None)
    for second in range(START, START + 3 * KEPT_SECONDS):
        ring.put(second, a_report())
    kept = seconds_of(ring, BUSY)
    assert KEPT_SECONDS <= len(kept) <= KEPT_SECONDS + 2 * ROWS
    assert max(kept) == START + 3 * KEPT_SECONDS - 1


@given(st.lists(st.floats(0, 1), min_size=121, max_size=180))
@settings(max_examples=30)
def test_rollups_are_the_mean_and_the_highest_of_their_seconds(values: list[float]) -> None:
    rollups: list[Rollup] = []
    ring = Ring("h1", rollups.append)
    for second, value in enumerate(values, START):
        ring.put(second, a_report(value))
    seconds = seconds_of(ring, BUSY)
    assert {done.step for done in rollups} == {FINE_SECONDS, COARSE_SECONDS}
    for done in rollups:
        place = done.layout.place(BUSY)
        assert place is not None
        own = [seconds[second] for second in range(done.start, done.start + done.step)]
        assert done.mean[place] == pytest.approx(sum(own) / len(own), abs=1e-4)
        assert done.highest[place] == pytest.approx(max(own), abs=1e-4)
    assert len({(done.step, done.start) for done in rollups}) == len(rollups)


def test_a_gpu_that_comes_or_goes_begins_a_block_and_loses_nothing() -> None:
    ring = Ring("h1", lambda _: None)
    ring.put(START, a_report(0.1, "GPU-1"))
    ring.put(START + 1, a_report(0.2, "GPU-1", "GPU-2"))
    ring.put(START + 2, a_report(0.3, "GPU-2"))
    assert seconds_of(ring, BUSY) == {START: pytest.approx(0.1), START + 1: pytest.approx(0.2)}
    other = Series("gpu", "GPU-2", "utilization_share")
    assert seconds_of(ring, other) == {START + 1: pytest.approx(0.2), START + 2: pytest.approx(0.3)}


def test_a_gpu_in_the_place_of_another_is_not_taken_for_it() -> None:
    ring = Ring("h1", lambda _: None)
    ring.put(START, a_report(0.1, "GPU-1"))
    ring.put(START + 1, a_report(0.9, "GPU-2"))
    assert seconds_of(ring, BUSY) == {START: pytest.approx(0.1)}


@given(st.sampled_from([math.nan, math.inf, -math.inf, -1.0, 1e300, -0.5]))
def test_what_no_instrument_can_show_is_unknown(value: float) -> None:
    figures = GpuFigures(utilization_share=value, power_watts=value)
    steps = dict(zip((field.name for field in GPU.fields), GPU.steps(figures), strict=True))
    assert steps["utilization_share"] == steps["power_watts"] == UNKNOWN


def test_zero_is_a_value_and_absent_is_none() -> None:
    steps = dict(zip((field.name for field in GPU.fields), GPU.steps(GpuFigures(power_watts=0.0)), strict=True))
    assert steps["power_watts"] == 0
    assert steps["temperature_celsius"] == UNKNOWN


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_no_value_below_the_limit_is_taken_for_unknown(kind: object) -> None:
    for field in kind.fields:  # type: ignore[attr-defined] # a Kind
        assert round((field.limit - 1.5 * field.step) / field.step) < UNKNOWN


@pytest.mark.parametrize("name", ["", "GPU\n1", "GPU\0", "x" * 300])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    report = ReportTelemetryRequest()
    report.gpus[name].utilization_share = 0.5
    with pytest.raises(InvalidError, match="no name"):
        Layout.of("h1", report)


def test_a_closed_block_reads_like_the_open_one() -> None:
    layout = Layout.of("h1", a_report(0.5, "GPU-1", "GPU-2"))
    block = OpenBlock(layout, START)
    for second in range(0, ROWS, 3):
        row = layout.row(a_report(second / ROWS, "GPU-1", "GPU-2"))
        assert row is not None
        block.put(START + second, row)
    closed = block.close()
    assert closed.rows(0, ROWS) == block.rows(0, ROWS)
    assert closed.rows(20, 30) == block.rows(20, 30)
    assert closed.size_bytes < ROWS * layout.row_bytes


def test_nothing_waits_for_a_database_that_nobody_writes_to() -> None:
    clock = Clock()
    rings = Rings(clock)
    for _ in range(100):
        clock.now += 1
        rings.take("h1", a_report())
    assert len(rings) == 0


def test_rollups_that_nobody_takes_are_bounded_and_the_newest_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rings_module, "BACKLOG", 10)
    clock = Clock()
    rings = Rings(clock)
    rings.recording = True
    for _ in range(1000):
        clock.now += 1
        rings.take("h1", a_report())
    assert len(rings) == 10
    assert rings.take_rollups(100)[-1].start >= clock.now - 2 * COARSE_SECONDS


def test_a_host_that_is_silent_is_closed_then_forgotten() -> None:
    clock = Clock()
    rings = Rings(clock)
    rings.recording = True
    rings.take("h1", a_report())
    clock.now += ROWS
    rings.sweep()
    assert {done.step for done in rings.take_rollups(10)} == {FINE_SECONDS, COARSE_SECONDS}
    assert rings.size_bytes > 0
    clock.now += KEPT_SECONDS + 2 * ROWS
    rings.sweep()
    assert rings.size_bytes == 0
    assert list(rings.blocks()) == []
