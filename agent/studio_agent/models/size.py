"""How large a model is that an engine reads."""

import asyncio
from pathlib import Path

from studio.v1.recipe_pb2 import ModelSource

from studio_agent.models.cache import ModelCache
from studio_agent.models.source import local_directory


async def bytes_on_disk(models: ModelCache, model: ModelSource) -> int:
    """The size of all its files; 0 where it is not known."""
    folder = local_directory(model.source) or await models.directory_of(model)
    return 0 if folder is None else await asyncio.to_thread(_bytes_below, folder)


def _bytes_below(folder: Path) -> int:
    try:
        files = [folder] if folder.is_file() else folder.rglob("*")
        return sum(file.stat().st_size for file in files if file.is_file())
    except OSError:
        return 0
