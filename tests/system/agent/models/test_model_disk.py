"""Pulling models to a disk that is too small, or fills up on the way: a small file system of its own stands for it."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.demo_process import until
from fakes.model_hub import MIB, a_model, files_of, model_hub
from studio.v1.host_pb2 import CachedModel
from studio_agent.models.cache import ModelCache
from studio_agent.models.errors import ModelDiskError

SECOND = "model-00002-of-00002.safetensors"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Eight MiB."""
    folder = tmp_path / "models"
    folder.mkdir()
    mounted = subprocess.run(
        ["/bin/mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root may mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["/bin/umount", str(folder)], check=True)


def fill(file: Path) -> None:
    with file.open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(b"\0" * 4096)
        except OSError:
            pass


async def test_a_model_that_does_not_fit_is_not_begun(small_disk: Path):
    with model_hub(a_model(shard_bytes=4 * MIB)) as hub:
        cache = ModelCache(small_disk, tries=1)
        with pytest.raises(ModelDiskError, match="are needed") as refused:
            await cache.pull("hf://lab/tiny", "", lambda _said: None)
        assert (refused.value.reason, refused.value.retryable) == ("disk", False)
        assert hub.fetched() == []


async def test_a_disk_that_fills_up_costs_nothing_that_is_there(small_disk: Path):
    other, model = a_model("lab/other", shard_bytes=MIB // 2), a_model(shard_bytes=2 * MIB, seed=2)
    with model_hub(other, model) as hub:
        cache = ModelCache(small_disk, tries=1)
        kept = await cache.pull("hf://lab/other", "", lambda _said: None)
        hub.held[SECOND] = 0.5
        pull = asyncio.ensure_future(cache.pull("hf://lab/tiny", "", lambda _said: None))
        await until(lambda: any(one.bytes_done == model.size - MIB for one in cache.models()))
        await asyncio.to_thread(fill, small_disk / "filler")
        hub.go_on.set()
        with pytest.raises(ModelDiskError, match="the disk is full"):
            await pull
        states = {one.source: one.state for one in cache.models()}
        assert states == {"hf://lab/other": CachedModel.STATE_COMPLETE, "hf://lab/tiny": CachedModel.STATE_PARTIAL}
        assert files_of(kept) == other.files
        # With room again it goes on where it was.
        (small_disk / "filler").unlink()
        hub.held.clear()
        assert files_of(await cache.pull("hf://lab/tiny", "", lambda _said: None)) == model.files
        assert hub.ranges[SECOND][-1] >= MIB
