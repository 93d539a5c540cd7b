"""The sampler's child: reads all GPUs once a tick and writes frames to standard output.

    python -m studio_agent.gpu.child --interval-seconds 1.0

One thread: the calls share a lock in the driver and can delay work on the GPUs, so they are made one after another.
Between ticks the child waits for the GPUs' own error reports in short slices. It never waits for its reader: while the
pipe is full, samples are dropped.

It ends when standard input closes or on SIGTERM, but never inside a driver call: Python runs the handler when the call
has returned.
"""

import argparse
import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from collections import deque
from types import FrameType

from studio_agent.gpu.frames import Frame, encode
from studio_agent.gpu.reader import GpusUnreadableError, Reader
from studio_agent.gpu.reading import Xid
from studio_agent.gpu.sampling import SLOW_EVERY, Sampling
from studio_agent.gpu.vendors import opened

PR_SET_PDEATHSIG = 1
STANDARD_INPUT = 0
# How long the end of standard input may go unnoticed.
SLICE_SECONDS = 0.2
# How long reports are collected before the tick that they cause.
SETTLE_SECONDS = 0.1
# XIDs that wait for a reader; older ones are dropped.
MOST_XIDS = 256


class Outbox:
    """Writes whole frames to a pipe without ever waiting for its reader."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._rest = b""

    def send(self, frame: Frame) -> bool:
        """Whether ``frame`` is on its way; False: an earlier one still is, and this one is dropped. Raises BrokenPipeError."""
        self._push()
        if self._rest:
            return False
        self._rest = encode(frame)
        self._push()
        return True

    def _push(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._rest:
                self._rest = self._rest[os.write(self._descriptor, self._rest) :]


def main() -> None:
    """Sample until told to stop."""
    parser = argparse.ArgumentParser(prog="studio_agent.gpu.child")
    parser.add_argument("--interval-seconds", type=float, default=1.0)
    interval_seconds = parser.parse_args().interval_seconds
    signal.signal(signal.SIGTERM, _leave)
    # Said here and not through the runtime package, whose event loop would double the size of this process.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    outbox = Outbox(os.dup(sys.stdout.fileno()))
    # Whatever a library prints must not end up between frames.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with contextlib.suppress(BrokenPipeError):
        try:
            with opened() as reader:
                _sample(reader, outbox, interval_seconds)
        except GpusUnreadableError as error:
            outbox.send(Frame(refusal=error.refusal))


def _sample(reader: Reader, outbox: Outbox, interval_seconds: float) -> None:
    """Tick until standard input closes."""
    sampling = Sampling(reader)
    xids: deque[Xid] = deque(maxlen=MOST_XIDS)
    ticks = 0
    reported = False
    while not _input_closed(0):
        started = time.monotonic()
        # An event brings fresh evidence at once: the driver's recovery action may have changed.
        if outbox.send(sampling.tick(time.time(), xids, slow=reported or ticks % SLOW_EVERY == 0)):
            xids.clear()
        ticks += 1
        # A driver that is slower than the interval gets rest all the same.
        reported = _wait(reader, max(started + interval_seconds, time.monotonic() + interval_seconds / 2), xids)


def _wait(reader: Reader, until: float, xids: deque[Xid]) -> bool:
    """Wait until ``until`` (monotonic), for less when a GPU reports or standard input closes; whether a GPU did."""
    reported = False
    while (left := min(until - time.monotonic(), SLICE_SECONDS)) > 0:
        slice_end = time.monotonic() + left
        events = reader.wait_for_events(left)
        if events is not None:
            xids.extend(events)
            # Reports come in swarms: one tick is enough for all of them.
            until = until if reported else min(until, time.monotonic() + SETTLE_SECONDS)
            reported = True
            slice_end = 0.0
        if _input_closed(max(0.0, slice_end - time.monotonic())):
            break
    return reported


def _input_closed(wait_seconds: float) -> bool:
    """Whether the agent has closed this child's standard input; nothing is ever written to it."""
    readable, _, _ = select.select([STANDARD_INPUT], [], [], wait_seconds)
    return bool(readable)


def _leave(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    main()
