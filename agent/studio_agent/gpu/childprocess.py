"""One sampler child as the agent sees it: a pid and two pipes.

Started with ``posix_spawn`` and not through asyncio's subprocess support, because that kills a child which is still
running when its pipes are closed. This one is only ever asked to end: its pipes close and it gets one SIGTERM, and when
a driver call holds it, it is left behind.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping

from studio_agent.gpu.frames import HEADER, Frame, decode, part_lengths

CHILD_MODULE = "studio_agent.gpu.child"
STDIN, STDOUT = 0, 1


class ChildProcess:
    """A running child. Made by `start`."""

    def __init__(self, pid: int, lifeline: int, frames: asyncio.StreamReader, transport: asyncio.ReadTransport) -> None:
        self.pid = pid
        # The child ends when this descriptor closes.
        self._lifeline = lifeline
        self._frames = frames
        self._transport = transport
        self._reaped = False

    @classmethod
    async def start(cls, interval_seconds: float, environment: Mapping[str, str]) -> "ChildProcess":
        """Start a child; raises OSError. Must be called on the process's main thread, whose end ends the child."""
        argv = [sys.executable, "-m", CHILD_MODULE, "--interval-seconds", str(interval_seconds)]
        child_input, lifeline = os.pipe()
        frames_end, child_output = os.pipe()
        try:
            pid = os.posix_spawn(  # noqa: ASYNC221 - it returns as soon as the child is made
                argv[0],
                argv,
                environment,
                file_actions=[(os.POSIX_SPAWN_DUP2, child_input, STDIN), (os.POSIX_SPAWN_DUP2, child_output, STDOUT)],
                # Ctrl-C on a terminal is the agent's to act on.
                setsid=True,
                setsigmask=(),
            )
        except OSError:
            os.close(lifeline)
            os.close(frames_end)
            raise
        finally:
            os.close(child_input)
            os.close(child_output)
        frames = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(frames), os.fdopen(frames_end, "rb", buffering=0)
        )
        return cls(pid, lifeline, frames, transport)

    async def read_frame(self) -> Frame:
        """The next frame; raises FrameError, or asyncio.IncompleteReadError when the child has closed its end."""
        host_length, report_length = part_lengths(await self._frames.readexactly(HEADER.size))
        return decode(await self._frames.readexactly(host_length), await self._frames.readexactly(report_length))

    def let_go(self) -> None:
        """Ask the child to end and stop listening to it. It ends when no driver call holds it."""
        os.close(self._lifeline)
        self._transport.close()
        if not self.has_ended():
            os.kill(self.pid, signal.SIGTERM)

    def has_ended(self) -> bool:
        """Whether the child is gone; collects its exit status. Never waits."""
        if not self._reaped:
            try:
                pid, _status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                # Somebody else in this process has collected it.
                self._reaped = True
            else:
                self._reaped = pid != 0
        return self._reaped

    async def ended(self, within_seconds: float) -> bool:
        """Wait until the child is gone, for at most ``within_seconds``; whether it is."""
        if self.has_ended():
            return True
        descriptor = os.pidfd_open(self.pid)
        loop = asyncio.get_running_loop()
        gone = asyncio.Event()
        loop.add_reader(descriptor, gone.set)
        try:
            async with asyncio.timeout(within_seconds):
                await gone.wait()
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
        return self.has_ended()
