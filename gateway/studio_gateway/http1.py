"""HTTP/1.1 heads, read by one strict grammar ★ (RFC 9112; what the grammar does not hold is refused, never repaired).

Two programs that read one request differently are how requests are smuggled. So nothing is tolerated that another reader could
take for something else: no bare CR or LF, no folded lines, no space before a colon, no target but a path, no coding but
``chunked``, no length beside it, no field twice of which there may be one. What goes on is written anew from what was read.
"""

import functools
import re
from dataclasses import dataclass, field

from studio_gateway.chunks import NAME, VALUE, FramingError

HEAD_END = b"\r\n\r\n"
LARGEST_HEAD_BYTES = 64 * 1024
MOST_FIELDS = 200

_REQUEST = re.compile(rb"([A-Z]{1,20}) (/[!\"$-~]*) HTTP/1\.([01])")
_ANSWER = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [\t -~\x80-\xff]*)?")
_FIELD = re.compile(rb"(" + NAME + rb"):[ \t]*(" + VALUE + rb"?)[ \t]*")
# Most lines of most heads have been seen before; 4096 of them take a megabyte at most.
_REMEMBERED_LINES = 4096
_LONGEST_REMEMBERED_BYTES = 256
_LENGTH = re.compile(rb"[0-9]{1,15}")
# Of these there is one, or none.
_SINGLE = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"content-type", b"authorization", b"expect", b"x-api-key")
)

Fields = list[tuple[bytes, bytes]]

STATUS_LINES = {
    200: b"HTTP/1.1 200 OK\r\n",
    400: b"HTTP/1.1 400 Bad Request\r\n",
    401: b"HTTP/1.1 401 Unauthorized\r\n",
    404: b"HTTP/1.1 404 Not Found\r\n",
    429: b"HTTP/1.1 429 Too Many Requests\r\n",
    500: b"HTTP/1.1 500 Internal Server Error\r\n",
    502: b"HTTP/1.1 502 Bad Gateway\r\n",
    503: b"HTTP/1.1 503 Service Unavailable\r\n",
    504: b"HTTP/1.1 504 Gateway Timeout\r\n",
}


@dataclass(slots=True)
class RequestHead:
    """One request's head. ``fields``: names in lower case, in order; ``first``: the same by name, the last of each."""

    method: str
    target: bytes
    is_http11: bool
    fields: Fields
    by_name: dict[bytes, bytes] = field(repr=False)
    # Bytes of body, None where it comes in chunks.
    length: int | None
    keeps_alive: bool

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for a word before it sends the body."""
        return self.by_name.get(b"expect", b"").lower() == b"100-continue"


@dataclass(slots=True)
class AnswerHead:
    """One answer's head. ``length``: bytes of body; None where ``is_chunked``, or where the connection's end ends it."""

    status: int
    fields: Fields
    by_name: dict[bytes, bytes] = field(repr=False)
    length: int | None
    is_chunked: bool
    keeps_alive: bool


def read_request(head: bytes) -> RequestHead:
    """Read ``head``, which ends with the empty line; raises FramingError."""
    first, *lines = head[: -len(HEAD_END)].split(b"\r\n")
    found = _REQUEST.fullmatch(first)
    if found is None:
        raise FramingError("its first line is not one of HTTP/1.1")
    method, target, minor = found.groups()
    fields, by_name = _fields(lines)
    is_http11 = minor == b"1"
    if is_http11 and b"host" not in by_name:
        raise FramingError("a request of HTTP/1.1 names its host")
    length: int | None = 0
    if b"transfer-encoding" in by_name:
        if not is_http11 or b"content-length" in by_name or by_name[b"transfer-encoding"].lower() != b"chunked":
            raise FramingError("a body has either a length or the coding 'chunked', and no other")
        length = None
    elif b"content-length" in by_name:
        length = _length(by_name[b"content-length"])
    return RequestHead(
        method.decode("ascii"),
        target,
        is_http11,
        fields,
        by_name,
        length,
        is_http11 and not _closes(by_name),
    )


def read_answer(head: bytes, method: str) -> AnswerHead:
    """Read the ``head`` of an answer to ``method``; raises FramingError."""
    first, *lines = head[: -len(HEAD_END)].split(b"\r\n")
    found = _ANSWER.fullmatch(first)
    if found is None:
        raise FramingError("its first line is not one of HTTP/1.1")
    minor, digits = found.groups()
    fields, by_name = _fields(lines)
    status = int(digits)
    keeps_alive = minor == b"1" and not _closes(by_name)
    coding, given = by_name.get(b"transfer-encoding"), by_name.get(b"content-length")
    if method == "HEAD" or status in (204, 304) or status < 200:  # noqa: PLR2004 - the numbers are their own names
        return AnswerHead(status, fields, by_name, 0, False, keeps_alive)
    if coding is not None:
        if given is not None or coding.lower() != b"chunked":
            raise FramingError("an answer has either a length or the coding 'chunked', and no other")
        return AnswerHead(status, fields, by_name, None, True, keeps_alive)
    if given is not None:
        return AnswerHead(status, fields, by_name, _length(given), False, keeps_alive)
    return AnswerHead(status, fields, by_name, None, False, False)


def status_line(status: int) -> bytes:
    """The first line of an answer of ours; the words after the number mean nothing and are left out where they are rare."""
    return STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


def _fields(lines: list[bytes]) -> tuple[Fields, dict[bytes, bytes]]:
    if len(lines) > MOST_FIELDS:
        raise FramingError(f"a head has at most {MOST_FIELDS} fields")
    fields = [_known_field(line) if len(line) <= _LONGEST_REMEMBERED_BYTES else _field(line) for line in lines]
    by_name = dict(fields)
    if len(by_name) != len(fields):
        names = [name for name, _ in fields]
        for name in _SINGLE:
            if names.count(name) > 1:
                raise FramingError(f"the field {name.decode('ascii')!r} occurs twice")
    return fields, by_name


def _field(line: bytes) -> tuple[bytes, bytes]:
    """Name, in lower case, and value of one line without its end."""
    found = _FIELD.fullmatch(line)
    if found is None:
        raise FramingError("one of its lines is not a name, a colon and a value")
    return found.group(1).lower(), found.group(2)


_known_field = functools.lru_cache(_REMEMBERED_LINES)(_field)


def _length(value: bytes) -> int:
    if not _LENGTH.fullmatch(value):
        raise FramingError("the length of the body is not a number")
    return int(value)


def _closes(by_name: dict[bytes, bytes]) -> bool:
    value = by_name.get(b"connection")
    return value is not None and b"close" in value.lower()
