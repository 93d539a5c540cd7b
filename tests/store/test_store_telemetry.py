"""Rollups in a real PostgreSQL: a few statements whatever the fleet; read back by name; old days go."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import text
from studio.v1.agent_service_pb2 import ReportTelemetryRequest
from studio_coordinator.leadership import Leadership
from studio_coordinator.store import telemetry as store
from studio_coordinator.store.database import STATEMENTS, Database
from studio_coordinator.telemetry.history import History, Sample, window_for
from studio_coordinator.telemetry.layout import Series
from studio_coordinator.telemetry.recorder import Recorder
from studio_coordinator.telemetry.rings import Rings

NOW = int(datetime.now(UTC).timestamp()) // 60 * 60
BUSY = Series("gpu", "GPU-0-0", "utilization_share")


class Clock:
    def __init__(self, now: int) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


def a_fleet(hosts: int, clock: Clock, seconds: int, gpus: int = 2) -> Rings:
    """Rings that heard ``hosts`` for ``seconds``; GPU n is busy with n per cent, rising by the second."""
    rings = Rings(clock)
    rings.recording = True
    for second in range(seconds):
        clock.now += 1
        for host in range(hosts):
            report = ReportTelemetryRequest()
            report.host.cpu_share = 0.5
            for gpu in range(gpus):
                report.gpus[f"GPU-{host}-{gpu}"].utilization_share = second % 60 / 100
            rings.take(f"h{host}", report)
    return rings


def a_recorder(database: Database, rings: Rings) -> Recorder:
    return Recorder(database, Leadership(database, "c1", "here"), rings)


@contextmanager
def counted() -> Iterator[list[float]]:
    found: list[float] = []
    before = STATEMENTS._value.get()
    yield found
    found.append(STATEMENTS._value.get() - before)


async def test_the_number_of_statements_does_not_grow_with_the_fleet(database: Database) -> None:
    sent = []
    for hosts in (5, 50):
        recorder = a_recorder(database, a_fleet(hosts, Clock(NOW - 300), seconds=11))
        # Partitions are made by the first one.
        await recorder.flush()
        recorder.rings = a_fleet(hosts, Clock(NOW - 200), seconds=11)
        with counted() as found:
            await recorder.flush()
        sent += found
    assert sent[0] == sent[1] <= 3


async def test_what_was_stored_is_read_back_by_name_from_the_right_table(database: Database) -> None:
    clock = Clock(NOW - 600)
    rings = a_fleet(3, clock, seconds=181)
    await a_recorder(database, rings).flush()
    # Another coordinator, which heard nothing itself.
    history = History(Rings(clock), database)
    fine = (await history.read([BUSY], window_for(clock.now, NOW - 600, 0, 10)))[BUSY]
    assert fine[:2] == [
        Sample(NOW - 600, pytest.approx(0.04), pytest.approx(0.08)),
        Sample(NOW - 590, pytest.approx(0.135), pytest.approx(0.18)),
    ]
    coarse = (await history.read([BUSY], window_for(clock.now, NOW - 600, 0, 60)))[BUSY]
    assert [sample.at for sample in coarse] == [NOW - 600, NOW - 540, NOW - 480]
    assert all(sample.highest <= 0.6 for sample in coarse)


async def test_the_rings_go_on_where_the_database_ends(database: Database) -> None:
    clock = Clock(NOW - 300)
    rings = a_fleet(1, clock, seconds=130)
    await a_recorder(database, rings).flush()
    younger = Rings(clock)
    for _ in range(60):
        clock.now += 1
        report = ReportTelemetryRequest()
        report.gpus["GPU-0-0"].utilization_share = 0.9
        younger.take("h0", report)
    found = (await History(younger, database).read([BUSY], window_for(clock.now, NOW - 300, 0, 10)))[BUSY]
    times = [sample.at for sample in found]
    assert times == sorted(set(times))
    assert found[0].at == NOW - 300
    assert found[-1].mean == pytest.approx(0.9)


async def test_days_past_their_time_go_with_their_partition(database: Database) -> None:
    today = date(2031, 5, 20)
    async with database.transaction() as conn:
        await store.prepare_partitions(conn, today)
        first = await partitions(conn)
        await store.prepare_partitions(conn, today + timedelta(days=4))
        later = await partitions(conn)
    assert {"telemetry_10s_20310520", "telemetry_10s_20310521", "telemetry_1m_20310520"} <= first
    assert "telemetry_10s_20310520" not in later
    assert "telemetry_1m_20310520" in later
    assert "telemetry_10s_20310525" in later


async def test_layouts_that_nothing_refers_to_are_forgotten(database: Database) -> None:
    now = datetime.now(UTC)
    recorder = a_recorder(database, a_fleet(2, Clock(NOW - 300), seconds=61))
    await recorder.flush()
    async with database.transaction() as conn:
        await store.layout_ids(conn, {("gone", "d"): ["host/gone/cpu_share"]}, now)
        assert await store.forget_layouts(conn, now + timedelta(seconds=1)) == 1
        left = (await conn.execute(text("SELECT count(*) FROM telemetry_layouts"))).scalar_one()
    assert left == 2


async def test_a_database_that_is_away_costs_the_batch_and_nothing_else() -> None:
    rings = a_fleet(1, Clock(NOW - 300), seconds=61)
    nowhere = Database("postgresql://nobody@127.0.0.1:1/nothing", pool_size=1)
    try:
        await a_recorder(nowhere, rings).flush()
    finally:
        await nowhere.close()
    assert len(rings) == 0


async def partitions(conn: object) -> set[str]:
    query = text("SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r'")
    return set((await conn.execute(query)).scalars())  # type: ignore[attr-defined] # a connection
