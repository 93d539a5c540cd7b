"""Every metric that a panel asks for is one that a daemon exports."""

import json
import re
from pathlib import Path

import pytest
import studio_agent.metrics
import studio_coordinator.loop
import studio_coordinator.telemetry.lag
import studio_coordinator.telemetry.recorder
from prometheus_client import REGISTRY, CollectorRegistry
from studio_coordinator.telemetry.samples import ALL
from studio_gateway.account import Metrics

DASHBOARDS = sorted((Path(__file__).parents[2] / "deploy" / "grafana").glob("*.json"))
NAME = re.compile(r"\bstudio_[a-z0-9_]+")
# Imported for what they register.
REGISTERING = (
    studio_agent.metrics,
    studio_coordinator.loop,
    studio_coordinator.telemetry.lag,
    studio_coordinator.telemetry.recorder,
)


def exported() -> set[str]:
    names = {metric.name for metric in ALL}
    for registry in (REGISTRY, _gateway_registry()):
        for family in registry.collect():
            names.add(family.name)
            suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ())
            names |= {family.name + suffix for suffix in suffixes}
    return names


def _gateway_registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    Metrics(registry)
    return registry


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_every_metric_that_a_panel_asks_for_is_exported(file: Path) -> None:
    board = json.loads(file.read_text(encoding="utf-8"))
    asked = {
        name for panel in board["panels"] for target in panel["targets"] for name in NAME.findall(target["expr"])
    } | {
        name
        for one in board["templating"]["list"]
        if one["type"] == "query"
        for name in NAME.findall(one["query"]["query"])
    }
    assert asked
    assert asked <= exported()


def test_there_is_a_board_for_each_part() -> None:
    assert [file.stem for file in DASHBOARDS] == ["fleet", "gateway", "host", "model"]


def test_panels_do_not_overlap() -> None:
    for file in DASHBOARDS:
        taken: set[tuple[int, int]] = set()
        for panel in json.loads(file.read_text(encoding="utf-8"))["panels"]:
            place = panel["gridPos"]
            cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
            assert taken.isdisjoint(cells), panel["title"]
            assert max(x for x, _ in cells) < 24
            taken |= cells
