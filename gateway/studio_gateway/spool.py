"""Usage on disk that the coordinator does not have yet: segments of length-prefixed batches, oldest first, bounded.

A crash can tear only the end of the newest segment; what stands before it is read. A segment is removed after all of it was
taken, so a crash between the two sends it again: every record has an id, and counts once.
"""

import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import structlog
from google.protobuf.message import DecodeError
from google.protobuf.proto import parse_length_prefixed, serialize_length_prefixed
from studio.v1.route_service_pb2 import ReportUsageRequest

log = structlog.get_logger()

SEGMENT_BYTES = 1024 * 1024
LARGEST_BYTES = 64 * 1024 * 1024


class Spool:
    """The folder of segments. All methods block on the disk; callers in several threads wait for one another."""

    def __init__(self, folder: Path, largest_bytes: int = LARGEST_BYTES) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._largest_bytes = largest_bytes
        # The segment that grows; None: the next batch begins one.
        self._current: Path | None = None
        self._lock = threading.RLock()

    @property
    def size_bytes(self) -> int:
        """All segments together."""
        with self._lock:
            return sum(segment.stat().st_size for segment in self._segments())

    def append(self, batch: ReportUsageRequest) -> int:
        """Keep ``batch``; returns how many older records had to be given up for it."""
        framed = io.BytesIO()
        serialize_length_prefixed(batch, framed)
        with self._lock:
            # A write that fails may leave a part of the batch behind: nothing is to stand after it.
            segment, self._current = self._current, None
            if segment is None or segment.stat().st_size >= SEGMENT_BYTES:
                segment = self._next_segment()
            descriptor = os.open(segment, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "ab") as file:
                file.write(framed.getvalue())
                file.flush()
                os.fsync(file.fileno())
            self._current = segment
            return self._give_up_oldest()

    def oldest(self) -> tuple[Path, list[ReportUsageRequest]] | None:
        """The oldest segment and its batches; None when there is nothing. Later batches go to another segment."""
        with self._lock:
            segments = self._segments()
            if not segments:
                return None
            if segments[0] == self._current:
                self._current = None
            return segments[0], list(_batches(segments[0]))

    def remove(self, segment: Path) -> None:
        """Forget a segment that the coordinator has."""
        with self._lock:
            segment.unlink(missing_ok=True)

    def _segments(self) -> list[Path]:
        return sorted(self._folder.glob("usage-*.binpb"))

    def _next_segment(self) -> Path:
        segments = self._segments()
        number = int(segments[-1].stem.partition("-")[2]) + 1 if segments else 1
        return self._folder / f"usage-{number:012d}.binpb"

    def _give_up_oldest(self) -> int:
        lost = 0
        segments = self._segments()
        size = self.size_bytes
        for segment in segments[:-1]:
            if size <= self._largest_bytes:
                break
            size -= segment.stat().st_size
            lost += sum(len(batch.records) for batch in _batches(segment))
            segment.unlink()
        if lost:
            log.error("usage_given_up", records=lost, spool_bytes=size)
        return lost


def _batches(segment: Path) -> Iterator[ReportUsageRequest]:
    stream = io.BytesIO(segment.read_bytes())
    try:
        while (batch := parse_length_prefixed(ReportUsageRequest, stream)) is not None:
            yield batch
    except (DecodeError, ValueError) as error:
        log.warning("spool_segment_torn", segment=segment.name, at_byte=stream.tell(), error=str(error))
