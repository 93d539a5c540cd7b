"""What the GPU sampler says beyond figures: its events go to the event log, its verdicts on health are kept on disk.

A quarantine must outlast the agent: a GPU that fell off its bus is not whole again because somebody restarted a process.
"""

import asyncio
import json
from collections.abc import Callable, Collection
from dataclasses import asdict
from pathlib import Path

import structlog
from studio.v1.event_pb2 import Event
from studio_runtime.process import write_atomically

from studio_agent.gpu.health import GpuHealth
from studio_agent.gpu.sampler import GpuSampler, SamplerState
from studio_agent.latest import Latest
from studio_agent.supervise.equipment import GpuRoom
from studio_agent.supervise.event_log import EventLog
from studio_agent.threads import to_the_end

# How long the first Hello waits for the GPUs to be known.
FIRST_PICTURE_SECONDS = 3.0

log = structlog.get_logger()


def known_health(path: Path) -> dict[str, GpuHealth]:
    """The verdicts that the last agent left, by UUID; a damaged file is as good as none."""
    try:
        return {uuid: GpuHealth(**fields) for uuid, fields in json.loads(path.read_bytes()).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        log.warning("gpu_health_unreadable", path=str(path), error=str(error))
        return {}


def room_of(sampler: GpuSampler, uuids: Collection[str]) -> GpuRoom:
    """What the GPUs of these UUIDs hold, as far as it was read."""
    gpus = [gpu for gpu in sampler.gpus() if gpu.uuid in uuids and gpu.memory_bytes]
    if not gpus:
        return GpuRoom()
    figures = sampler.figures()
    used = [
        figures[gpu.uuid] for gpu in gpus if gpu.uuid in figures and figures[gpu.uuid].HasField("memory_used_bytes")
    ]
    total = min(gpu.memory_bytes for gpu in gpus)
    taken = max((each.memory_used_bytes + each.memory_reserved_bytes for each in used), default=0)
    return GpuRoom(total, max(0, total - taken) if len(used) == len(gpus) else 0)


async def first_picture(sampler: GpuSampler, news: Latest[None]) -> None:
    """Wait, not for long, until the sampler knows which GPUs there are."""
    try:
        async with asyncio.timeout(FIRST_PICTURE_SECONDS):
            while sampler.state is SamplerState.STARTING:
                await news.newer_than(news.version)
    except TimeoutError:
        log.info("gpus_not_known_yet", waited_seconds=FIRST_PICTURE_SECONDS)


async def watch_gpus(
    sampler: GpuSampler,
    news: Latest[None],
    changes: Latest[None],
    events: EventLog,
    path: Path,
    hear: Callable[[Event], None],
) -> None:
    """Pass on what the sampler reports, to the event log and to ``hear``. Returns only by cancellation."""
    version, kept = -1, known_health(path)
    while True:
        version = await news.newer_than(version)
        health = sampler.health()
        if health != kept and await _keep(path, health):
            kept = health
        # Facts may have changed: whoever reports looks again.
        changes.set(None)
        for event in sampler.events():
            events.pass_on(event)
            hear(event)


async def _keep(path: Path, health: dict[str, GpuHealth]) -> bool:
    text = json.dumps({uuid: asdict(verdict) for uuid, verdict in health.items()}, indent=1)
    try:
        await to_the_end(write_atomically, path, text.encode())
    except OSError as error:
        log.warning("gpu_health_not_written", error=str(error))
        return False
    return True
