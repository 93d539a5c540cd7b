"""What a replica is given of the models that its recipe names."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.model_hub import Hub, Model, a_model, model_hub
from google.protobuf.json_format import ParseDict
from studio.v1.recipe_pb2 import Recipe
from studio.v1.replica_pb2 import StartProgress
from studio_agent.models.cache import ModelCache
from studio_agent.models.errors import ModelMissingError, ModelOutsideError
from studio_agent.models.roots import ModelRoots
from studio_agent.models.start import hub_models, resolve_models

GGUF = Model("lab/small-GGUF", {"README.md": b"about", "small-Q4_K_M.gguf": b"GGUF 4", "small-Q8_0.gguf": b"GGUF 8"})
RECIPE = {
    "model": {"source": "hf://lab/tiny", "revision": "main"},
    "lora": [
        {"name": "legal", "source": "hf://lab/legal"},
        {"name": "mine", "source": "path:///replaced/by/the/test"},
    ],
    "args": {"speculative": {"method": "draft_model", "model": "lab/draft", "num_speculative_tokens": 3}},
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with model_hub(a_model(), a_model("lab/draft", seed=2), a_model("lab/legal", shards=1, seed=3), GGUF) as served:
        yield served


async def test_everything_that_a_recipe_names_is_on_the_host_before_its_engine_starts(hub: Hub, tmp_path: Path):
    recipe = ParseDict(RECIPE, Recipe())
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "adapter_config.json").write_text("{}")
    recipe.lora[1].source = f"path://{mine}"
    asked = Recipe.FromString(recipe.SerializeToString())
    reported: list[StartProgress] = []
    cache = ModelCache(tmp_path)
    path, resolved = await resolve_models(cache, recipe, reported.append)
    commit = "a" * 40
    assert path == str(tmp_path / "lab--tiny" / commit)
    assert [one.source for one in resolved.lora] == [f"path://{tmp_path}/lab--legal/{commit}", f"path://{mine}"]
    assert resolved.args.speculative["model"] == f"{tmp_path}/lab--draft/{commit}"
    assert resolved.args.speculative["num_speculative_tokens"] == 3
    # The recipe itself stays as it was assigned.
    assert recipe == asked
    assert {one.phase for one in reported} == {StartProgress.PHASE_DOWNLOAD}
    assert [await cache.directory_of(one) for one in hub_models(recipe)] == [
        tmp_path / f"lab--{name}" / commit for name in ("tiny", "legal", "draft")
    ]
    # A second start asks nobody.
    hub.requests.clear()
    assert await resolve_models(cache, recipe, reported.append) == (path, resolved)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("source", "file"), [("lab/small-GGUF:Q8_0", "small-Q8_0.gguf"), ("lab/small-GGUF", "small-Q4_K_M.gguf")]
)
async def test_of_gguf_one_file_is_given(hub: Hub, tmp_path: Path, source: str, file: str):
    recipe = Recipe()
    recipe.model.source = f"hf://{source}"
    cache = ModelCache(tmp_path)
    path, _ = await resolve_models(cache, recipe, lambda _said: None)
    assert Path(path).name == file
    assert hub.fetched() == [file]
    assert [one.source for one in cache.models()] == [f"hf://{source}"]


async def test_a_quantization_that_is_not_there_is_named_with_those_that_are(hub: Hub, tmp_path: Path):
    recipe = Recipe()
    recipe.model.source = "hf://lab/small-GGUF:Q2_K"
    with pytest.raises(ModelMissingError, match="small-Q4_K_M, small-Q8_0"):
        await resolve_models(ModelCache(tmp_path), recipe, lambda _said: None)
    assert hub.fetched() == []


async def test_a_model_or_adapter_outside_the_hosts_model_directories_is_refused_unseen(tmp_path: Path):
    inside, outside = tmp_path / "models", tmp_path / "elsewhere"
    for folder in (inside / "m", outside):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        (folder / "adapter_config.json").write_text("{}")
    (inside / "link").symlink_to(outside)
    cache = ModelCache(inside)

    def a_recipe(model: Path, adapter: Path) -> Recipe:
        return ParseDict(
            {"model": {"source": f"path://{model}"}, "lora": [{"name": "a", "source": f"path://{adapter}"}]}, Recipe()
        )

    for recipe in (
        a_recipe(outside, inside / "m"),
        a_recipe(outside / "not-there", inside / "m"),
        a_recipe(inside / "link", inside / "m"),
        a_recipe(inside / "m", outside),
    ):
        with pytest.raises(ModelOutsideError, match="outside the model directories of this host"):
            await resolve_models(cache, recipe, lambda _said: None)
        with pytest.raises(ModelOutsideError):
            await resolve_models(ModelCache(inside, roots=ModelRoots((inside, outside / "m"))), recipe, lambda _: None)
    allowed = ModelCache(inside, roots=ModelRoots((inside, outside)))
    path, _ = await resolve_models(allowed, a_recipe(inside / "link", outside), lambda _said: None)
    assert path == str(inside / "link")


async def test_a_recipe_without_a_model_needs_none(tmp_path: Path):
    assert await resolve_models(ModelCache(tmp_path), Recipe(name="demo"), lambda _said: None) == (
        "",
        Recipe(name="demo"),
    )
