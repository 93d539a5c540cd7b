"""The models of a replica that starts: its own, its adapters, and the small one that drafts for it.

Engines are given directories and told to ask no hub, so everything that a recipe names is brought here first.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

from studio.v1.recipe_pb2 import ModelSource, Recipe
from studio.v1.replica_pb2 import StartProgress

from studio_agent.models.cache import ModelCache
from studio_agent.models.pull import Token, no_token
from studio_agent.models.source import GGUF, HUB, LOCAL, REPOSITORY
from studio_agent.models.voice import PullProgress

MIB = 1024**2
# In `args.speculative`: a draft model, as the hub calls it or as a directory.
DRAFT = "model"


def hub_models(recipe: Recipe) -> list[ModelSource]:
    """All that ``recipe`` wants from the hub."""
    named = [recipe.model]
    named += [ModelSource(source=adapter.source, revision=adapter.revision) for adapter in recipe.lora]
    return [model for model in named if model.source.startswith(HUB)] + _drafts(recipe)


async def resolve_models(
    models: ModelCache, recipe: Recipe, report: Callable[[StartProgress], None], token: Token = no_token
) -> tuple[str, Recipe]:
    """The absolute path of the model ("" where the recipe names none), and the recipe with paths for the others.

    What is not here is fetched, with the hub token that ``token`` brings. Raises ModelError.
    """
    resolved = Recipe()
    resolved.CopyFrom(recipe)

    async def directory(model: ModelSource) -> str:
        folder = await models.obtain(
            model.source, model.revision, lambda said: report(_fetching(model.source, said)), token
        )
        return str(await asyncio.to_thread(_for_engine, folder))

    path = await directory(recipe.model) if recipe.model.source else ""
    for adapter in resolved.lora:
        if await models.local_adapter(adapter.source) is None:
            adapter.source = LOCAL + await directory(ModelSource(source=adapter.source, revision=adapter.revision))
    for draft in _drafts(recipe):
        resolved.args.speculative.fields[DRAFT].string_value = await directory(draft)
    return path, resolved


def _for_engine(folder: Path) -> Path:
    """What an engine is given of a model in ``folder``: the folder, or the (first) file of one that is GGUF."""
    if folder.is_file() or (folder / "config.json").exists():
        return folder
    return min(folder.rglob(f"*{GGUF}"), default=folder)


def _drafts(recipe: Recipe) -> list[ModelSource]:
    if not recipe.args.HasField("speculative") or DRAFT not in recipe.args.speculative.fields:
        return []
    name = recipe.args.speculative.fields[DRAFT].string_value.removeprefix(HUB)
    return [ModelSource(source=HUB + name)] if REPOSITORY.fullmatch(name) else []


def _fetching(source: str, said: PullProgress) -> StartProgress:
    detail = said.note or f"{said.bytes_done // MIB:,} of {said.bytes_total // MIB:,} MiB"
    return StartProgress(phase=StartProgress.PHASE_DOWNLOAD, share=said.share, detail=f"{source}: {detail}")
