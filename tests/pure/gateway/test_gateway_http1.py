"""The grammar of HTTP/1.1: what it takes means to another parser exactly what it means here, and the rest is refused."""

import contextlib
import re
from itertools import pairwise

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from studio_gateway.chunks import LAST_CHUNK, ChunkedBody, FramingError, framed
from studio_gateway.http1 import read_answer, read_request

FIRST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"


class Llhttp:
    """Another parser's reading of a request."""

    def __init__(self, data: bytes) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.target = self.body = b""
        self.is_whole = False
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.is_whole = True


tokens = st.text("abcXYZ-_'!09", min_size=1, max_size=8).map(str.encode)
values = st.binary(max_size=20).map(lambda data: re.sub(rb"[\x00-\x08\x0a-\x1f\x7f]", b"", data))
lines = st.lists(st.tuples(tokens, st.sampled_from([b": ", b":", b":\t "]), values), max_size=6)


@given(lines, st.sampled_from(["POST", "GET", "DELETE", "HEAD"]), st.text("/abc%20?=&.~", max_size=20))
def test_wellformed_heads_are_read_as_another_parser_reads_them(
    fields: list[tuple[bytes, bytes, bytes]], method: str, path: str
):
    text = b"".join(name + colon + value + b"\r\n" for name, colon, value in fields)
    head = f"{method} /{path} HTTP/1.1\r\nHost: x\r\n".encode() + text + b"\r\n"
    read = read_request(head)
    other = Llhttp(head)
    assert (read.method, read.target) == (other.parser.get_method().decode(), other.target)
    assert read.fields == [(name, value.rstrip(b" \t")) for name, value in other.fields]


pieces = st.sampled_from(
    [
        b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"0", b"5", b"hello", b"\x00", b"\x0b", b"\xff", b",", b";a=b",
        b"Content-Length: 5\r\n", b"Content-Length: +5\r\n", b"Content-Length: 5, 5\r\n", b"Content-Length : 5\r\n",
        b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n", b"Transfer-Encoding:\x0bchunked\r\n",
        b"Transfer-encoding: identity\r\n", b"Host: y\r\n", b" folded\r\n", b"X: 1\r\n", b"Connection: close\r\n",
        b"5\r\nhello\r\n0\r\n\r\n", b"0\r\n\r\n", b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n",
    ]
)  # fmt: skip


@given(st.lists(pieces, max_size=8).map(b"".join))
@example(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n")
def test_whatever_is_taken_ends_where_another_parser_ends_it(tail: bytes):
    data = FIRST + tail + b"\r\n\r\n"
    end = data.find(b"\r\n\r\n") + 4
    try:
        read = read_request(data[:end])
        body, rest, is_whole = body_of(read.length, data[end:])
    except FramingError:
        return
    # Whatever passes here passes there too, and holds the same body; what follows is cut off, so that it is only about this one.
    other = Llhttp(data[: len(data) - len(rest)])
    assert other.body == body
    assert other.is_whole is is_whole


def body_of(length: int | None, data: bytes) -> tuple[bytes, bytes, bool]:
    if length is None:
        reader = ChunkedBody()
        return reader.feed(data), reader.rest, reader.is_complete
    return data[:length], data[length:], len(data) >= length


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes):
    for read in (read_request, lambda head: read_answer(head, "POST")):
        with contextlib.suppress(FramingError):
            read(data)
    with contextlib.suppress(FramingError):
        ChunkedBody().feed(data)


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5, 5\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: 0x5\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 5 5\r\n",
        b"Content-Length:\r\n",
        b"Content-Length : 5\r\n",
        b" Content-Length: 5\r\n",
        b"Content-Length: 9999999999999999\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: chunked, chunked\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n",
        b"Transfer-Encoding\x00: chunked\r\n",
        b"Transfer-Encoding: chunked\n",
        b"X: 1\r\n Transfer-Encoding: chunked\r\n",
        b"X: a\r\n\tfolded\r\n",
        b"X: a\rb\r\n",
        b"X: a\nb: c\r\n",
        b"X: a\x00\r\n",
        b"X\r\n",
        b": x\r\n",
        b"X y: z\r\n",
        b"Host: y\r\n",
        b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n",
        b"X: 1\r\n" * 201,
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(lines: bytes):
    with pytest.raises(FramingError):
        read_request(FIRST + lines + b"\r\n")


@pytest.mark.parametrize(
    "first",
    [
        b"POST /v1/x HTTP/1.1\r\n\r\n",  # no host
        b"POST /v1/x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /v1/x HTTP/2.0\r\nHost: x\r\n\r\n",
        b"POST /v1/x HTTP/1.1 \r\nHost: x\r\n\r\n",
        b"POST  /v1/x HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST\t/v1/x HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST http://x/v1/x HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST v1/x HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/a b HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/a\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/a#b HTTP/1.1\r\nHost: x\r\n\r\n",
        b"post /v1/x HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\r\nPOST /v1/x HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/x\r\n\r\n",
    ],
)
def test_first_lines_that_are_not_ours_are_refused(first: bytes):
    with pytest.raises(FramingError):
        read_request(first)


def test_ends_of_answers():
    def read(lines: bytes, method: str = "POST", status: int = 200, minor: int = 1) -> tuple[int | None, bool, bool]:
        head = read_answer(b"HTTP/1.%d %d Fine\r\n%b\r\n" % (minor, status, lines), method)
        return head.length, head.is_chunked, head.keeps_alive

    assert read(b"Content-Length: 5\r\n") == (5, False, True)
    assert read(b"Transfer-Encoding: chunked\r\n") == (None, True, True)
    assert read(b"Content-Length: 5\r\nConnection: close\r\n") == (5, False, False)
    assert read(b"Content-Length: 5\r\n", minor=0) == (5, False, False)
    assert read(b"") == (None, False, False)
    assert read(b"Content-Length: 5\r\n", "HEAD") == read(b"Content-Length: 5\r\n", status=304) == (0, False, True)
    assert read(b"", status=204) == (0, False, True)
    for lines in (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n"):
        with pytest.raises(FramingError):
            read(lines)


parts = st.lists(st.binary(min_size=1, max_size=40), max_size=6)
cuts = st.lists(st.integers(min_value=0, max_value=1000), max_size=12)


def cut(data: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in at), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@given(parts, cuts, st.sampled_from([b"\r\n", b"X: 1\r\n\r\n"]), st.binary(max_size=10))
def test_chunks_come_out_whole_however_the_network_cuts_them(
    whole: list[bytes], at: list[int], trailers: bytes, behind: bytes
):
    data = b"".join(map(framed, whole)) + b"0\r\n" + trailers + behind
    reader, out, left = ChunkedBody(), b"", b""
    for piece in cut(data, at):
        if reader.is_complete:
            left += piece
            continue
        out += reader.feed(piece)
        if reader.is_complete:
            left = reader.rest
    assert (out, left, reader.is_complete) == (b"".join(whole), behind, True)


@given(st.binary(max_size=30), parts, st.integers(0, 200), cuts)
def test_cuts_do_not_decide_what_is_refused(noise: bytes, whole: list[bytes], place: int, at: list[int]):
    data = b"".join(map(framed, whole)) + LAST_CHUNK
    place %= len(data) + 1
    data = data[:place] + noise + data[place:]

    def read(pieces: list[bytes]) -> tuple[bytes, bool] | None:
        reader, out = ChunkedBody(), b""
        try:
            for piece in pieces:
                if not reader.is_complete:
                    out += reader.feed(piece)
        except FramingError:
            return None
        return out, reader.is_complete

    assert read(cut(data, at)) == read([data])


@pytest.mark.parametrize(
    "data",
    [
        b"5;ext=1\r\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhelloo\r\n0\r\n\r\n",
        b"4\r\nhello\r\n0\r\n\r\n",
        b"000000005\r\nhello\r\n0\r\n\r\n",
        b"\r\n5\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\r\nno field\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX: a\n\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\rX",
        b"5\r\nhello\r\n0\r\nX: " + b"a" * 9000,
    ],
)
def test_chunks_that_could_be_read_in_two_ways_are_refused(data: bytes):
    with pytest.raises(FramingError):
        ChunkedBody().feed(data)
