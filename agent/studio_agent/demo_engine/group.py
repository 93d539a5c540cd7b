"""One demo engine as several processes, as engines over several hosts are: rank 0 answers once all ranks have joined it.

    rank 1 ── its rank ──► rank 0    a member connects, again and again until it is let in, and says which it is
    rank 1 ◄──  beats  ──► rank 0    once all are there, each hears the other every second

All live or none: a beat that stays away, or a connection that ends, ends the process that misses it.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable

from studio_agent.demo_engine.misbehaviour import exit_suddenly
from studio_agent.demo_engine.settings import Settings

BEAT = b"."
BEAT_SECONDS = 1.0
SILENT_SECONDS = 10.0
RETRY_SECONDS = 0.1
log = logging.getLogger(__name__)


class Group:
    """This process's place among the ranks. One event loop owns it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._joined = asyncio.Event()
        self._present: set[int] = set()

    async def joined(self) -> None:
        """Return when all ranks are there, and say so in vLLM's words."""
        await self._joined.wait()
        rank, size = self._settings.node_rank, self._settings.nnodes
        log.info("rank %d in world size %d is assigned as DP rank 0, PP rank %d, TP rank 0", rank, size, rank)

    async def hold_together(self) -> None:
        """Be one of the ranks until cancelled; ends the process when another one is gone."""
        if self._settings.nnodes == 1:
            self._joined.set()
        elif self._settings.node_rank == 0:
            await self._lead()
        else:
            await self._follow()

    async def _lead(self) -> None:
        async with asyncio.TaskGroup() as members:

            def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                members.create_task(self._host(reader, writer))

            server = await asyncio.start_server(welcome, self._settings.master_addr, self._settings.master_port)
            async with server:
                await asyncio.Event().wait()

    async def _host(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            said = (await reader.readline()).strip()
            rank = int(said) if said.isdigit() else 0
            if not 0 < rank < self._settings.nnodes or rank in self._present:
                return
            self._present.add(rank)
            if len(self._present) == self._settings.nnodes - 1:
                self._joined.set()
            await self._joined.wait()
            await _beat(reader, writer, lambda: self._lost(f"rank {rank}"))

    async def _follow(self) -> None:
        settings = self._settings
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(settings.master_addr, settings.master_port)
                with contextlib.closing(writer):
                    writer.write(b"%d\n" % settings.node_rank)
                    # Nothing comes while others are missing, and the end where rank 0 began anew.
                    if await reader.read(len(BEAT)):
                        self._joined.set()
                        await _beat(reader, writer, lambda: self._lost("rank 0"))
            await asyncio.sleep(RETRY_SECONDS)

    def _lost(self, who: str) -> None:
        log.error("%s is gone: Connection closed by peer; a group lives as a whole or not at all.", who)
        exit_suddenly(1)


async def _beat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lost: Callable[[], None]) -> None:
    """Send beats, and call ``lost`` when none come any more."""

    async def send() -> None:
        while True:
            writer.write(BEAT)
            await writer.drain()
            await asyncio.sleep(BEAT_SECONDS)

    async def hear() -> None:
        while True:
            async with asyncio.timeout(SILENT_SECONDS):
                if not await reader.read(len(BEAT) * 16):
                    raise ConnectionResetError

    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(send())
            both.create_task(hear())
    except* (OSError, TimeoutError):
        lost()
