"""What an engine prints of its own secrets does not reach who reads its log."""

from collections.abc import AsyncIterator

from hypothesis import given
from hypothesis import strategies as st
from studio_agent.session import log_pulls
from studio_agent.session.log_pulls import without_secrets
from studio_runtime.logging import hide

SECRET = "sentinel-in-a-log-41c7"
LOG = f"before\rstep 1\nHUB={SECRET} and on\nno end {SECRET}".encode() + b"\xff\xfe"


async def cut(log: bytes, places: list[int]) -> AsyncIterator[bytes]:
    begin = 0
    for place in [*sorted(places), len(log)]:
        yield log[begin:place]
        begin = place


@given(st.lists(st.integers(0, len(LOG))))
async def test_wherever_the_log_is_cut_into_pieces(places: list[int]) -> None:
    hide(SECRET)
    read = b"".join([piece async for piece in without_secrets(cut(LOG, places))])
    assert read == LOG.replace(SECRET.encode(), "…".encode())


async def test_a_line_is_sent_as_soon_as_it_ends_and_one_without_an_end_in_parts() -> None:
    long = b"x" * log_pulls.LONGEST_LINE_BYTES
    pieces = [piece async for piece in without_secrets(cut(b"a\nb" + long + b"c\n", [1, 2, 3, 3 + len(long)]))]
    assert pieces == [b"a\n", b"b" + long, b"c\n"]
