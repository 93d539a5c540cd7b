"""Where a recipe's model is: what to hand to the engine."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from studio.v1.recipe_pb2 import ModelSource
from studio.v1.replica_pb2 import StartProgress

from studio_agent.environments.errors import ModelMissingError

LOCAL, HUB = "path://", "hf://"


async def resolve_model(source: ModelSource, cache_dir: Path, report: Callable[[StartProgress], None]) -> str:
    """The absolute directory of a local model, or the id of one on the hub, which the engine fetches into ``cache_dir`` itself.

    "" where the recipe names none. Raises ModelMissingError.
    """
    text = source.source
    if not text:
        return ""
    if text.startswith(LOCAL):
        folder = Path(text.removeprefix(LOCAL))
        await asyncio.to_thread(_check_folder, folder)
        return str(folder)
    if text.startswith(HUB):
        name = text.removeprefix(HUB)
        if name.count("/") != 1 or not all(name.split("/")):
            raise ModelMissingError(f"{text} names no model", "Write hf://OWNER/NAME.")
        report(
            StartProgress(
                phase=StartProgress.PHASE_DOWNLOAD,
                detail=f"{name}: fetched by the engine into {cache_dir} where missing",
            )
        )
        return name
    raise ModelMissingError(
        f"{text!r} is no model source", "Write hf://OWNER/NAME, or path:// and an absolute directory."
    )


def _check_folder(folder: Path) -> None:
    if not folder.is_absolute():
        raise ModelMissingError(f"{folder} is not absolute", "Write path:// and an absolute directory on the host.")
    if not folder.is_dir():
        raise ModelMissingError(
            f"there is no directory {folder} on this host", "Copy the model there, or name another place."
        )
    if not (folder / "config.json").is_file():
        raise ModelMissingError(
            f"{folder} holds no config.json, so it is no model",
            "Name the directory that holds config.json and the weights.",
        )
