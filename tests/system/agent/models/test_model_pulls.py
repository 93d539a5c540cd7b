"""Pulling models from a hub on loopback, through ``huggingface_hub`` and a real child process."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.demo_process import until
from fakes.model_hub import Hub, a_model, files_of, model_hub
from studio.v1.host_pb2 import CachedModel
from studio_agent.models.cache import ModelCache
from studio_agent.models.errors import (
    HubUnavailableError,
    ModelCorruptError,
    ModelGatedError,
    ModelMissingError,
    PullCancelledError,
    PullPausedError,
)
from studio_agent.models.voice import PullProgress
from studio_runtime.errors import NotFoundError

SOURCE = "hf://lab/tiny"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with model_hub(a_model()) as served:
        yield served


@pytest.fixture
def cache(tmp_path: Path) -> ModelCache:
    return ModelCache(tmp_path / "models", tries=3)


def quietly(_progress: PullProgress) -> None:
    return


def state_of(cache: ModelCache) -> "CachedModel.State.ValueType":
    (model,) = cache.models()
    return model.state


async def held_pull(hub: Hub, cache: ModelCache) -> "asyncio.Task[Path]":
    """A pull that has half of the second shard and waits for the rest."""
    hub.held[SECOND] = 0.5
    pull = asyncio.ensure_future(cache.pull(SOURCE, "", quietly))
    await until(hub.is_holding.is_set)
    model = hub.models["lab/tiny"]
    half = model.size - len(model.files[SECOND]) // 2
    await until(lambda: any(one.bytes_done == half for one in cache.models()))
    return pull


async def test_a_model_is_whole_or_not_there(hub: Hub, cache: ModelCache):
    pull = await held_pull(hub, cache)
    (model,) = cache.models()
    assert (model.state, model.path, model.revision) == (CachedModel.STATE_PULLING, "", "a" * 40)
    assert model.bytes_total == hub.models["lab/tiny"].size
    hub.go_on.set()
    folder = await pull
    assert files_of(folder) == hub.models["lab/tiny"].files
    (model,) = cache.models()
    assert (model.state, model.path, model.source) == (CachedModel.STATE_COMPLETE, str(folder), SOURCE)
    assert model.bytes_done == model.bytes_total == hub.models["lab/tiny"].size


async def test_what_is_complete_is_had_without_a_word_to_the_hub(hub: Hub, cache: ModelCache):
    folder = await cache.pull(SOURCE, "", quietly)
    hub.requests.clear()
    assert await cache.obtain(SOURCE, "", quietly) == folder
    # A commit never changes, so a pull of it only checks.
    assert await cache.pull(SOURCE, "a" * 40, quietly) == folder
    assert hub.requests == []
    # A branch may have moved on.
    hub.serve(newer := a_model(seed=2))
    newer.commit = "b" * 40
    assert (await cache.pull(SOURCE, "main", quietly)).name == "b" * 40
    assert await cache.obtain(SOURCE, "a" * 40, quietly) == folder
    # And when nobody can say, what is there will do.
    hub.refusals["revision"] = [(503, {})] * 3
    assert (await cache.pull(SOURCE, "main", quietly)).name == "b" * 40


async def test_several_who_want_it_share_one_pull(hub: Hub, cache: ModelCache):
    pull = await held_pull(hub, cache)
    told: list[PullProgress] = []
    other = asyncio.ensure_future(cache.obtain(SOURCE, "", told.append))
    # It hears how far the first one is.
    await until(lambda: any(one.bytes_done > 0 for one in told))
    hub.go_on.set()
    assert await other == await pull
    assert sorted(hub.fetched()) == ["config.json", FIRST, SECOND]


async def test_one_that_leaves_hands_the_pull_on(hub: Hub, cache: ModelCache):
    pull = await held_pull(hub, cache)
    told: list[PullProgress] = []
    other = asyncio.ensure_future(cache.obtain(SOURCE, "", told.append))
    await until(lambda: told)
    pull.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pull
    hub.go_on.set()
    assert files_of(await other) == hub.models["lab/tiny"].files


async def test_a_pull_that_was_killed_goes_on_in_the_middle_of_a_file(hub: Hub, cache: ModelCache, tmp_path: Path):
    pull = await held_pull(hub, cache)
    pull.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await pull
    assert state_of(cache) == CachedModel.STATE_PARTIAL
    hub.held.clear()
    # Another agent on the same folder finds it.
    later = ModelCache(tmp_path / "models")
    await later.load()
    assert state_of(later) == CachedModel.STATE_PARTIAL
    folder = await later.pull(SOURCE, "", quietly)
    assert files_of(folder) == hub.models["lab/tiny"].files
    assert hub.ranges[SECOND] == [0, len(hub.models["lab/tiny"].files[SECOND]) // 2]
    assert hub.ranges[FIRST] == [0]


async def test_pause_and_go_on(hub: Hub, cache: ModelCache):
    pull = await held_pull(hub, cache)
    told: list[PullProgress] = []
    replica = asyncio.ensure_future(cache.obtain(SOURCE, "", told.append))
    await until(lambda: told)
    await cache.pause(SOURCE)
    with pytest.raises(PullPausedError):
        await pull
    # A replica that needs the model waits.
    await until(lambda: told[-1].note.startswith("paused"))
    assert state_of(cache) == CachedModel.STATE_PAUSED
    hub.go_on.set()
    folder = await cache.pull(SOURCE, "", quietly)
    assert await replica == folder
    assert state_of(cache) == CachedModel.STATE_COMPLETE
    with pytest.raises(NotFoundError):
        await cache.pause(SOURCE)


async def test_cancelling_drops_what_is_not_whole(hub: Hub, cache: ModelCache):
    hub.serve(other := a_model("lab/other"))
    kept = await cache.pull("hf://lab/other", "", quietly)
    pull = await held_pull(hub, cache)
    await cache.cancel(SOURCE)
    with pytest.raises(PullCancelledError):
        await pull
    assert [one.source for one in cache.models()] == ["hf://lab/other"]
    assert files_of(kept) == other.files
    with pytest.raises(NotFoundError):
        await cache.cancel(SOURCE)


async def test_a_file_that_comes_damaged_is_fetched_again(hub: Hub, cache: ModelCache):
    hub.damaged[FIRST] = 1
    folder = await cache.pull(SOURCE, "", quietly)
    assert files_of(folder) == hub.models["lab/tiny"].files
    assert hub.ranges[FIRST] == [0, 0]
    assert hub.ranges[SECOND] == [0]


async def test_a_file_that_is_always_damaged_is_given_up(hub: Hub, cache: ModelCache):
    hub.damaged["config.json"] = 10
    with pytest.raises(ModelCorruptError, match=r"config\.json"):
        await cache.pull(SOURCE, "", quietly)
    assert hub.ranges["config.json"] == [0, 0]
    assert state_of(cache) == CachedModel.STATE_PARTIAL
    with pytest.raises(ModelCorruptError):
        await cache.obtain(SOURCE, "", quietly)


async def test_a_byte_that_flips_on_disk_is_mended_by_a_pull(hub: Hub, cache: ModelCache):
    folder = await cache.pull(SOURCE, "", quietly)
    damaged = bytearray((folder / FIRST).read_bytes())
    damaged[1000] ^= 1
    (folder / FIRST).write_bytes(damaged)
    hub.requests.clear()
    assert await cache.pull(SOURCE, "a" * 40, quietly) == folder
    assert files_of(folder) == hub.models["lab/tiny"].files
    assert hub.fetched() == [FIRST]


async def test_a_file_that_is_gone_or_cut_is_not_complete(hub: Hub, cache: ModelCache):
    folder = await cache.pull(SOURCE, "", quietly)
    (folder / FIRST).unlink()
    (folder / "config.json").write_bytes(b"{}")
    await cache.load()
    assert state_of(cache) == CachedModel.STATE_PARTIAL
    hub.requests.clear()
    assert await cache.obtain(SOURCE, "", quietly) == folder
    assert files_of(folder) == hub.models["lab/tiny"].files
    assert sorted(hub.fetched()) == ["config.json", FIRST]


async def test_a_hub_that_refuses_for_now_is_waited_for(hub: Hub, cache: ModelCache):
    hub.refusals["revision"] = [(429, {"Retry-After": "1"})]
    hub.refusals[FIRST] = [(503, {"Retry-After": "1"}), (500, {})]
    told: list[PullProgress] = []
    folder = await cache.pull(SOURCE, "", told.append)
    assert files_of(folder) == hub.models["lab/tiny"].files
    notes = {one.note for one in told}
    assert "the hub answered 429; next try in 1 s" in notes
    assert "the hub answered 503; next try in 1 s" in notes


async def test_a_hub_that_asks_for_too_much_is_left_alone(hub: Hub, cache: ModelCache):
    hub.refusals["revision"] = [(429, {"Retry-After": "86400"})]
    with pytest.raises(HubUnavailableError, match="answered 429") as refused:
        await cache.pull(SOURCE, "", quietly)
    assert refused.value.retryable
    assert cache.models() == []


async def test_a_hub_that_is_not_there(hub: Hub, cache: ModelCache, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(HubUnavailableError, match="cannot be reached"):
        await cache.pull(SOURCE, "", quietly)
    assert hub.requests == []


@pytest.mark.parametrize(("source", "revision"), [("hf://lab/none", ""), (SOURCE, "none")])
async def test_what_the_hub_does_not_have(hub: Hub, cache: ModelCache, source: str, revision: str):
    with pytest.raises(ModelMissingError):
        await cache.pull(source, revision, quietly)
    assert not hub.fetched()


async def test_a_gated_model_needs_a_token(hub: Hub, cache: ModelCache):
    hub.models["lab/tiny"].gated = True
    with pytest.raises(ModelGatedError, match="terms"):
        await cache.pull(SOURCE, "", quietly)


async def test_removing_gives_the_disk_back(hub: Hub, cache: ModelCache):
    folder = await cache.pull(SOURCE, "", quietly)
    for revision in ("", "main", "a" * 40):
        assert (await cache.choose(SOURCE, revision)).root == folder
    with pytest.raises(NotFoundError):
        await cache.choose(SOURCE, "other")
    await cache.remove(await cache.choose(SOURCE, ""))
    assert not folder.exists()
    assert cache.models() == []
    assert hub.requests
