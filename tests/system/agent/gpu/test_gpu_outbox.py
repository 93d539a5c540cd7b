"""The child's end of the pipe: it never waits for a reader, and a reader never sees half a frame."""

import os

import pytest
from studio_agent.gpu.child import Outbox
from studio_agent.gpu.frames import HEADER, Frame, decode, part_lengths
from studio_agent.gpu.reading import Xid


def a_frame(number: int) -> Frame:
    """Some kilobytes, so that a pipe fills up in the middle of one."""
    return Frame(xids=tuple(Xid(f"GPU-{each}", number, 0.0) for each in range(100)))


def read_frame(descriptor: int) -> Frame:
    with os.fdopen(os.dup(descriptor), "rb", buffering=0) as pipe:

        def exactly(length: int) -> bytes:
            data = b""
            while len(data) < length:
                data += pipe.read(length - len(data))
            return data

        host_length, report_length = part_lengths(exactly(HEADER.size))
        return decode(exactly(host_length), exactly(report_length))


def test_frames_are_dropped_while_nobody_reads_and_whole_ones_follow_when_somebody_does():
    reader, writer = os.pipe()
    try:
        outbox = Outbox(writer)
        sent = 0
        while outbox.send(a_frame(sent)):
            sent += 1
        assert not outbox.send(a_frame(1_000))
        # The last one is stuck half-way: it goes on as soon as there is room, and only then does another one begin.
        received = [read_frame(reader).xids[0].number for _ in range(sent - 1)]
        assert outbox.send(a_frame(2_000))
        received += [read_frame(reader).xids[0].number for _ in range(2)]
        assert received == [*range(sent), 2_000]
    finally:
        os.close(reader)
        os.close(writer)


def test_a_reader_that_is_gone_is_noticed():
    reader, writer = os.pipe()
    os.close(reader)
    try:
        with pytest.raises(BrokenPipeError):
            Outbox(writer).send(Frame())
    finally:
        os.close(writer)
