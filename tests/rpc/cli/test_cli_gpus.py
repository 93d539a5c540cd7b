"""``studio hosts gpus`` against a coordinator in memory."""

import json

import pytest
from fakes.admin import Fleet
from fakes.cli import Studio
from studio.v1.agent_service_pb2 import CommandResult
from studio.v1.host_pb2 import Gpu, Host
from studio_cli import wording

GIB = 2**30


@pytest.fixture(autouse=True)
def gpus(fleet: Fleet) -> None:
    fleet.hosts[0].gpus.extend(
        [
            Gpu(
                uuid="GPU-b",
                index=1,
                model="NVIDIA H100 80GB HBM3",
                memory_bytes=80 * GIB,
                health=Gpu.HEALTH_QUARANTINED,
                health_reason="XID 79",
            ),
            Gpu(uuid="GPU-a", model="NVIDIA H100 80GB HBM3", memory_bytes=80 * GIB, health=Gpu.HEALTH_HEALTHY),
        ]
    )
    fleet.hosts[0].gpus[1].figures.utilization_share = 0.5
    fleet.hosts[0].gpus[1].figures.memory_used_bytes = 8 * GIB


def test_they_are_listed_by_index_with_what_is_wrong(studio: Studio, fleet: Fleet):
    fleet.hosts.append(Host(id="h2", name="lab-2"))
    assert [line.split() for line in studio("hosts", "gpus").out.splitlines()] == [
        ["HOST", "GPU", "MODEL", "MEMORY", "BUSY", "HEALTH"],
        ["lab-1", "0", "H100", "8", "GiB", "of", "80", "GiB", "50", "%", "HEALTHY"],
        ["lab-1", "1", "H100", "80", "GiB", wording.NOTHING, "QUARANTINED", "XID", "79"],
    ]
    assert "no host has a GPU" in studio("hosts", "gpus", "list", "lab-2").err
    assert [(one["host"], one["uuid"]) for one in json.loads(studio("hosts", "gpus", "-o", "json").out)] == [
        ("lab-1", "GPU-a"),
        ("lab-1", "GPU-b"),
    ]


@pytest.mark.parametrize("name", ["1", "GPU-b"])
def test_one_is_checked_by_index_or_uuid(studio: Studio, fleet: Fleet, name: str):
    fleet.command_news = [CommandResult(ok=True, message="GPU-b is healthy")]
    said = studio("hosts", "gpus", "check", "lab-1", name)
    assert (said.code, said.out.split(maxsplit=4)) == (0, ["✓", "check", "GPU", "1", "GPU-b is healthy\n"])
    (request,) = fleet.asked("RunCommand")
    assert (request.host, request.command.check_gpu.uuid) == ("lab-1", "GPU-b")


def test_one_that_is_not_mended_stays_in_quarantine(studio: Studio, fleet: Fleet):
    fleet.command_news = [
        CommandResult(reason="refused_by_safety", message="GPU-b stays in quarantine", hint="Mend it.")
    ]
    said = studio("hosts", "gpus", "check", "lab-1", "1")
    assert (said.code, said.err) == (5, "Error: GPU-b stays in quarantine\nMend it.\n")


@pytest.mark.parametrize(("words", "told"), [(("lab-1", "7"), "1 (GPU-b)"), (("lab-9", "1"), "lab-1")])
def test_what_is_not_there_is_answered_with_what_is(studio: Studio, fleet: Fleet, words: tuple[str, str], told: str):
    said = studio("hosts", "gpus", "check", *words)
    assert said.code == 3
    assert told in said.err
    assert fleet.asked("RunCommand") == []


def test_a_gpu_of_no_host_is_asked_for_its_host(studio: Studio, fleet: Fleet):
    said = studio("hosts", "gpus", "check", "", "1")
    assert (said.code, said.err) == (
        2,
        "Error: no host is named\nSay which: studio hosts gpus check HOST GPU.\n",
    )
    assert fleet.asked("RunCommand") == []


def test_a_host_says_what_lifts_a_quarantine(studio: Studio):
    told = studio("hosts", "show", "lab-1").out
    assert "once mended: studio hosts gpus check lab-1 1" in told
    assert told.count("once mended") == 1
