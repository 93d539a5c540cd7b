"""Engines' log files: followed while an engine starts, read at its end for the cause, sent when somebody asks.

Engines write them directly (no pipe that the agent holds), appending; one file for each replica, over all its restarts, and one
older one. Both are bounded, also while an engine runs.
"""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

LARGEST_BYTES = 64 * 1024 * 1024
CHUNK_BYTES = 64 * 1024
QUOTA_BYTES_PER_SECOND = 256 * 1024
POLL_SECONDS = 0.2
# What is read of a log to find the cause of a failure: where the first error stands, and how it ended.
HEAD_BYTES = 512 * 1024
TAIL_BYTES = 512 * 1024


class LineFollower:
    """Gives the whole lines that were appended to a file since it was last asked."""

    def __init__(self, path: Path, offset: int) -> None:
        self._path = path
        self._offset = offset
        self._partial = b""

    def new_lines(self) -> list[str]:
        """At most 256 KiB of new whole lines; carriage returns (progress bars) end lines too."""
        piece = read_piece(self._path, self._offset, 4 * CHUNK_BYTES)
        self._offset += len(piece)
        *lines, self._partial = (self._partial + piece).replace(b"\r", b"\n").split(b"\n")
        self._partial = self._partial[-CHUNK_BYTES:]
        return [line.decode("utf-8", "replace") for line in lines if line]


def prepare_log(path: Path) -> int:
    """Make room for the next engine of a replica; returns the offset at which its part begins."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o710)
    if path.exists() and path.stat().st_size > LARGEST_BYTES:
        path.replace(path.with_suffix(".log.1"))
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    return path.stat().st_size


def cut_if_large(path: Path, largest_bytes: int = LARGEST_BYTES) -> bool:
    """Move what a running engine wrote into ``.log.1`` once it is more than ``largest_bytes``; whether that was done.

    The engine keeps its descriptor, so the file is copied and then emptied; it appends, so it goes on at the new end. What it
    writes between the two is lost, which is why what came during the copy is copied as well. Without room for a copy the log
    is emptied all the same: a full disk would end the engine.
    """
    try:
        with path.open("r+b") as log:
            if os.fstat(log.fileno()).st_size <= largest_bytes:
                return False
            older = path.with_suffix(".log.1")
            try:
                with os.fdopen(os.open(older, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as copy:
                    shutil.copyfileobj(log, copy, CHUNK_BYTES)
            except OSError:
                with contextlib.suppress(OSError):
                    older.unlink(missing_ok=True)
            log.truncate(0)
    except OSError:
        return False
    return True


def lines_since(path: Path, offset: int) -> list[str]:
    """The lines of one engine's part of the log; of a long one its beginning and its end."""
    try:
        size = path.stat().st_size
    except OSError:
        return []
    offset = offset if offset <= size else 0
    if size - offset <= HEAD_BYTES + TAIL_BYTES:
        content = read_piece(path, offset, size - offset)
    else:
        content = read_piece(path, offset, HEAD_BYTES) + b"\n" + read_piece(path, size - TAIL_BYTES, TAIL_BYTES)
    return content.decode("utf-8", "replace").replace("\r", "\n").splitlines()


async def read_log(path: Path, tail_bytes: int, *, follow: bool) -> AsyncIterator[bytes]:
    """The last ``tail_bytes`` of a log in chunks, then, where asked, what is appended, until the reader stops asking.

    At most 256 KiB/s are given out. A file that was replaced by a new one (rotation) is followed there.
    """
    offset = max(0, await asyncio.to_thread(_size, path) - tail_bytes)
    while True:
        piece = await asyncio.to_thread(read_piece, path, offset, CHUNK_BYTES)
        if piece:
            offset += len(piece)
            yield piece
            await asyncio.sleep(len(piece) / QUOTA_BYTES_PER_SECOND)
            continue
        if not follow:
            return
        await asyncio.sleep(POLL_SECONDS)
        if await asyncio.to_thread(_size, path) < offset:
            offset = 0


def read_piece(path: Path, offset: int, length: int) -> bytes:
    """Up to ``length`` bytes from ``offset``; none where there is no such file."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(length)
    except OSError:
        return b""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
