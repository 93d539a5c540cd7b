"""studio top: the picture that changes add up to, its pages, and what keys do."""

from datetime import UTC, datetime

import pytest
from studio.v1.deployment_pb2 import Deployment
from studio.v1.host_pb2 import Gpu, GpuFigures, Host, HostFacts, HostFigures
from studio.v1.replica_pb2 import Replica, ReplicaFigures
from studio.v1.telemetry_service_pb2 import WatchTelemetryResponse
from studio_cli.top.fleet import Fleet
from studio_cli.top.keys import DOWN, View
from studio_cli.top.pages import Order, Page, bar, page, summary
from studio_cli.top.screen import frame
from studio_cli.wording import NOTHING

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def a_host(name: str, busy: float = 0.5) -> Host:
    gpu = Gpu(
        uuid=f"GPU-{name}",
        model="NVIDIA H100 80GB HBM3",
        memory_bytes=80 << 30,
        health=Gpu.HEALTH_HEALTHY,
        figures=GpuFigures(utilization_share=busy, memory_used_bytes=40 << 30, power_watts=500, temperature_celsius=60),
    )
    facts = HostFacts(memory_bytes=64 << 30)
    return Host(
        id=name, name=name, state=Host.STATE_CONNECTED, facts=facts, gpus=[gpu], figures=HostFigures(cpu_share=0.1)
    )


def a_fleet(*hosts: Host) -> Fleet:
    fleet = Fleet()
    replica = Replica(
        id="chat-1",
        deployment="chat",
        state=Replica.STATE_READY,
        gpu_uuids=["GPU-h1"],
        figures=ReplicaFigures(running=3, waiting=1, kv_used_share=0.25, generation_tokens_per_second=1234),
    )
    deployment = Deployment(name="chat", state=Deployment.STATE_READY, ready_replicas=1, wanted_replicas=1)
    fleet.take(WatchTelemetryResponse(complete=True, hosts=hosts, replicas=[replica], deployments=[deployment]))
    return fleet


def test_what_is_said_once_stays() -> None:
    fleet = a_fleet(a_host("h1"))
    later = a_host("h1", busy=0.9)
    later.ClearField("facts")
    fleet.take(WatchTelemetryResponse(hosts=[later]))
    assert fleet.hosts["h1"].facts.memory_bytes == 64 << 30
    assert fleet.hosts["h1"].gpus[0].figures.utilization_share == 0.9


def test_what_is_gone_goes_and_a_whole_picture_replaces_everything() -> None:
    fleet = a_fleet(a_host("h1"), a_host("h2"))
    fleet.take(WatchTelemetryResponse(removed_hosts=["h1"], removed_replicas=["chat-1"]))
    assert list(fleet.hosts) == ["h2"]
    assert not fleet.replicas
    fleet.take(WatchTelemetryResponse(complete=True, hosts=[a_host("h3")]))
    assert list(fleet.hosts) == ["h3"]
    assert not fleet.deployments


@pytest.mark.parametrize("shown", Page)
def test_every_page_has_a_row_for_what_there_is_and_a_word_for_nothing(shown: Page) -> None:
    assert len(page(a_fleet(a_host("h1")), shown, Order.NAME, NOW).rows) == 1
    nothing = page(Fleet(), shown, Order.BUSY, NOW)
    assert not nothing.rows
    assert nothing.empty


def test_the_order_is_by_name_as_people_count_or_by_what_is_busiest() -> None:
    fleet = a_fleet(a_host("h10", 0.1), a_host("h9", 0.2), a_host("h1", 0.9))
    assert [row.key for row in page(fleet, Page.HOSTS, Order.NAME, NOW).rows] == ["h1", "h9", "h10"]
    assert [row.key for row in page(fleet, Page.HOSTS, Order.BUSY, NOW).rows] == ["h1", "h9", "h10"]
    fleet = a_fleet(a_host("h1", 0.1), a_host("h2", 0.9))
    assert [row.key for row in page(fleet, Page.GPUS, Order.BUSY, NOW).rows] == ["h2 0", "h1 0"]


def test_the_summary_says_how_the_fleet_is() -> None:
    told = summary(a_fleet(a_host("h1", 0.4), a_host("h2", 0.6)))
    assert told == "2 of 2 hosts  2 GPUs  50 % busy  1 kW  1 of 1 replica ready  1,234 tok/s"


def test_a_frame_fits_its_screen_and_says_what_is_hidden() -> None:
    fleet = a_fleet(*(a_host(f"h{number}") for number in range(50)))
    lines = frame(fleet, View(), NOW, 80, 20, "keys")
    assert len(lines) == 20
    assert all(line.cell_len <= 80 for line in lines)
    assert "34 more" in frame(fleet, View(), NOW, 200, 20, "keys")[0].plain
    assert len(frame(fleet, View(), NOW, 80, 0, "")) == 53


def test_scrolling_ends_at_the_last_row() -> None:
    fleet = a_fleet(*(a_host(f"h{number}") for number in range(50)))
    view = View()
    for _ in range(100):
        view = view.pressed(DOWN)
    assert "h49" in frame(fleet, view, NOW, 200, 20, "keys")[-2].plain
    assert view.pressed("s").first == 0


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("2", View(Page.GPUS)),
        ("\t", View(Page.GPUS)),
        ("4\t", View(Page.HOSTS)),
        ("s", View(order=Order.BUSY)),
        ("sss", View()),
        ("jjk", View(first=1)),
        ("k", View()),
        ("x", View()),
        ("q", View(done=True)),
    ],
)
def test_keys(keys: str, expected: View) -> None:
    view = View()
    for key in keys:
        view = view.pressed(key)
    assert view == expected


def test_a_bar_is_as_long_as_the_share() -> None:
    assert bar(0.5).count("█") == 4
    assert bar(7.0).count("█") == 8
    assert bar(None) == NOTHING
