"""The coding ``chunked`` ★: strict in both directions, because what is read wrong here is where the next request begins.

No chunk extensions, no bare LF, at most 8 digits of length. Trailer fields are read and dropped.
"""

import functools
import re

# Of fields, here and in heads: a name is a token, a value has no control characters.
NAME = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
VALUE = rb"[\t -~\x80-\xff]*"

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")
_SIZE_BEGUN = re.compile(rb"(?:[0-9A-Fa-f]{1,8}\r?)?")
_TRAILERS = re.compile(rb"(?:" + NAME + rb":" + VALUE + rb"\r\n)*\r\n")
_TRAILERS_END = re.compile(rb"\n\r?\n|\r[^\n]")
LONGEST_TRAILERS_BYTES = 8 * 1024
LAST_CHUNK = b"0\r\n\r\n"
_LONGEST_SIZE_LINE = 10
# Tokens of streams come in few lengths.
_REMEMBERED_SIZES = 1024


class FramingError(ValueError):
    """Where a message begins or ends cannot be told; the text says why. The connection is of no more use."""


def framed(data: bytes) -> bytes:
    """``data``, which is not empty, as one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class ChunkedBody:
    """Reads one body in chunks; how the network cuts it has no effect on what comes out."""

    __slots__ = ("_held", "_left", "_trailing", "is_complete", "rest")

    def __init__(self) -> None:
        self.is_complete = False
        # What stood behind the body, once it is complete.
        self.rest = b""
        # The beginning of a line that is not whole yet.
        self._held = b""
        # Bytes of the present chunk that have not come, with the line end behind them.
        self._left = 0
        self._trailing = False

    def feed(self, data: bytes) -> bytes:
        """Take what has come; returns what it holds of the body. Raises FramingError."""
        if self._held:
            data, self._held = self._held + data, b""
        elif not self._left and not self._trailing:
            # One whole chunk in one read: a token of a stream.
            begin, end = data.find(b"\r\n", 0, _LONGEST_SIZE_LINE) + 2, len(data) - 2
            if end > begin and _known_size(data[:begin]) == end - begin and data.endswith(b"\r\n"):
                return data[begin:end]
        parts: list[bytes] = []
        at, size = 0, len(data)
        while at < size and not self.is_complete:
            if self._left:
                at = self._take(data, at, parts)
            elif self._trailing:
                at = self._read_trailers(data, at)
            elif found := _SIZE.match(data, at):
                at = found.end()
                length = int(found.group(1), 16)
                self._left = length + 2 if length else 0
                self._trailing = not length
            elif _SIZE_BEGUN.fullmatch(data, at):
                self._held, at = data[at:], size
            else:
                raise FramingError("a chunk does not begin with its length")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _take(self, data: bytes, at: int, parts: list[bytes]) -> int:
        """Take what has come of the present chunk and of the line end behind it; returns where the rest begins."""
        body_end = at + self._left - 2
        if body_end > at:
            parts.append(data[at:body_end])
        end = min(at + self._left, len(data))
        if not b"\r\n"[-min(self._left, 2) :].startswith(data[max(body_end, at) : end]):
            raise FramingError("a chunk is longer than its length")
        self._left -= end - at
        return end

    def _read_trailers(self, data: bytes, at: int) -> int:
        found = _TRAILERS.match(data, at)
        if found is not None:
            self.is_complete, self.rest = True, data[found.end() :]
        elif len(data) - at > LONGEST_TRAILERS_BYTES or _TRAILERS_END.search(data, at):
            raise FramingError("a body in chunks does not end with an empty line")
        else:
            self._held = data[at:]
        return len(data)


def _size(line: bytes) -> int:
    """The length that the first ``line`` of a chunk gives, with its end; -1 where it is none."""
    found = _SIZE.fullmatch(line)
    return int(found.group(1), 16) if found is not None else -1


_known_size = functools.lru_cache(_REMEMBERED_SIZES)(_size)
