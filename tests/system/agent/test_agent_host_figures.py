"""What the host shows of itself."""

import shutil
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from studio_agent.host_figures import host_facts
from studio_agent.settings import AgentSettings, StateFolder
from studio_agent.supervise.readings import Readings
from studio_agent.telemetry import HostSampler

# A disk of its own, on nearly every machine.
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - nothing is written there


@pytest.fixture
def second_disk(tmp_path: Path) -> Path:
    if not SHARED_MEMORY.is_dir() or SHARED_MEMORY.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second disk here")
    return SHARED_MEMORY


async def test_the_disk_is_that_of_the_models_even_before_there_is_one(tmp_path: Path, second_disk: Path) -> None:
    models = second_disk / "not" / "made" / "yet"
    settings = AgentSettings(StateFolder(tmp_path), tmp_path / "engines", "lab-1", models_dir=models)
    sampler = HostSampler(settings, "id", Readings(), dict, dict, lambda _gpus: None)
    shown = (await sampler.sample(1)).host
    total = shutil.disk_usage(second_disk).total
    assert shutil.disk_usage(tmp_path).total != total
    assert host_facts("127.0.0.1", models, "1").disk_bytes == total
    assert 0 <= shown.disk_free_bytes <= total
    assert shown.at != Timestamp()
