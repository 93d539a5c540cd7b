"""Fault 3: the loop that supervises stands still, while the process, its other threads and its connection live."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fakes.agent_process import AgentProcess, a_demo_replica
from fakes.coordinator import FakeCoordinator
from studio.v1.replica_pb2 import Replica

WATCHDOG_SECONDS = 0.4
# A process of its own: what a tracer waits for, the parent's wait would take away from it.
STOPPER = """
import ctypes, os, sys
SEIZE, INTERRUPT, WALL = 0x4206, 0x4207, 0x40000000
thread = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
for request in (SEIZE, INTERRUPT):
    if libc.ptrace(request, thread, None, None):
        sys.exit(os.strerror(ctypes.get_errno()))
os.waitpid(thread, WALL)
print("stopped", flush=True)
sys.stdin.read()
"""


@contextmanager
def one_thread_stopped(thread: int) -> Iterator[None]:
    """Stop this thread and no other of its process: SIGSTOP would stop them all."""
    argv = [sys.executable, "-c", STOPPER, str(thread)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as stopper:
        assert stopper.stdout is not None
        if stopper.stdout.readline() != b"stopped\n":
            pytest.skip("this machine lets nobody trace a process")
        # It lets go of the thread when its standard input closes and it ends.
        yield


class ServiceManager:
    """The receiving end of the notify protocol."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        self.environment = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": str(int(WATCHDOG_SECONDS * 1e6))}

    async def next_beat(self, within_seconds: float) -> bool:
        """Whether the watchdog is fed within that time; what was said before is forgotten."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._socket.recv(4096)
        except BlockingIOError:
            pass
        try:
            async with asyncio.timeout(within_seconds):
                while b"WATCHDOG=1" not in await loop.sock_recv(self._socket, 4096):
                    pass
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        self._socket.close()


async def test_a_blocked_loop_starves_watchdog_and_lease_and_its_successor_adopts(
    tmp_path: Path, coordinator: FakeCoordinator
) -> None:
    manager = ServiceManager(tmp_path / "notify")
    try:
        async with AgentProcess(tmp_path, coordinator.address, environment=manager.environment) as agent:
            coordinator.assign(a_demo_replica())
            ready = await coordinator.until_state("demo-1", Replica.STATE_READY)
            assert await manager.next_beat(30)
            with one_thread_stopped(agent.pid):
                # What was under way arrives; from then on there is silence, on a connection that stands.
                await manager.next_beat(WATCHDOG_SECONDS)
                heard = len(coordinator.heartbeats)
                assert not await manager.next_beat(2 * WATCHDOG_SECONDS)
                assert len(coordinator.heartbeats) == heard
                assert coordinator.connected
                # As systemd does when the watchdog's time is over.
                os.kill(agent.pid, signal.SIGKILL)
            assert await agent.ended() == -signal.SIGKILL
            await agent.start()
            assert await manager.next_beat(30)
            await coordinator.until(lambda: len(coordinator.hellos) == 2)
            (seen,) = coordinator.hellos[1].replicas
            assert (seen.pid, seen.restarts) == (ready.pid, 0)
    finally:
        manager.close()
