"""The model of a replica that starts."""

from collections.abc import Callable

from studio.v1.recipe_pb2 import ModelSource
from studio.v1.replica_pb2 import StartProgress

from studio_agent.models.cache import ModelCache
from studio_agent.models.voice import PullProgress

MIB = 1024**2


async def resolve_model(models: ModelCache, model: ModelSource, report: Callable[[StartProgress], None]) -> str:
    """The absolute directory that holds the model, fetched where it is not; "" where the recipe names none. Raises ModelError."""
    if not model.source:
        return ""
    return str(await models.obtain(model.source, model.revision, lambda said: report(_fetching(model.source, said))))


def _fetching(source: str, said: PullProgress) -> StartProgress:
    detail = said.note or f"{said.bytes_done // MIB:,} of {said.bytes_total // MIB:,} MiB"
    return StartProgress(phase=StartProgress.PHASE_DOWNLOAD, share=said.share, detail=f"{source}: {detail}")
