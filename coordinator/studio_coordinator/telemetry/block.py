"""One minute of one host: a row for each second. A closed block is compressed, by byte planes, to a quarter or less.

Neighbouring seconds differ little, and the upper bytes of most figures do not differ at all: so each byte of each column is laid
out as a run of its own before it is compressed.
"""

import zlib
from collections.abc import Sequence

from studio_coordinator.telemetry.layout import Layout

ROWS = 60
# Every value unknown.
ABSENT = b"\xff"
FASTEST = 1

Rows = list[tuple[int, ...]]


class OpenBlock:
    """The minute that is being written. ``start`` is its first second, a whole minute."""

    def __init__(self, layout: Layout, start: int) -> None:
        self.layout = layout
        self.start = start
        self._data = bytearray(ABSENT * (ROWS * layout.row_bytes))

    def put(self, second: int, row: Sequence[int]) -> None:
        """Write the row of ``second``, which lies in this minute; the last one of a second stays."""
        self.layout.struct.pack_into(self._data, (second - self.start) * self.layout.row_bytes, *row)

    def rows(self, first: int, end: int) -> Rows:
        """The rows of the seconds from ``first`` to before ``end``, counted from the start."""
        width = self.layout.row_bytes
        return list(self.layout.struct.iter_unpack(memoryview(self._data)[first * width : end * width]))

    def close(self) -> "ClosedBlock":
        """The block as it is kept."""
        width = self.layout.row_bytes
        planes = b"".join(bytes(self._data[plane::width]) for plane in range(width))
        return ClosedBlock(self.layout, self.start, zlib.compress(planes, FASTEST))


class ClosedBlock:
    """A minute that is over."""

    __slots__ = ("_packed", "layout", "start")

    def __init__(self, layout: Layout, start: int, packed: bytes) -> None:
        self.layout = layout
        self.start = start
        self._packed = packed

    @property
    def size_bytes(self) -> int:
        """Memory that it takes, without its head."""
        return len(self._packed)

    def rows(self, first: int, end: int) -> Rows:
        """As of an open block."""
        planes, width = zlib.decompress(self._packed), self.layout.row_bytes
        data = bytearray(len(planes))
        for plane in range(width):
            data[plane::width] = planes[plane * ROWS : (plane + 1) * ROWS]
        return list(self.layout.struct.iter_unpack(memoryview(data)[first * width : end * width]))


Block = OpenBlock | ClosedBlock
