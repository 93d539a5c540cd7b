"""Processes under measurement: pinned to a core, waited for, their CPU time and memory read, ended by their own id."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

START_SECONDS = 90.0


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def on_core(core: int, argv: Sequence[str]) -> list[str]:
    """``argv``, pinned to one core."""
    taskset = shutil.which("taskset")
    if taskset is None:
        raise RuntimeError("this benchmark pins processes with taskset, of util-linux")
    return [taskset, "-c", str(core), *argv]


@contextmanager
def running(argv: Sequence[str], log: Path, port: int, environment: Mapping[str, str] | None = None) -> Iterator[int]:
    """Run ``argv`` until the block ends; yields its process id once it answers on ``port``."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv, stdout=output, stderr=output, env={**os.environ, **(environment or {})}, start_new_session=True
        )
    try:
        _until_answering(process, port, log)
        yield process.pid
    finally:
        family = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pid in family[1:]:
            if psutil.pid_exists(pid):
                psutil.Process(pid).kill()


def _until_answering(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"it ended at once: {log.read_text(errors='replace')[-400:].strip()}")
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
                sock.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                answer = sock.recv(12)
                # gRPC's first frame, where it is no HTTP/1.1.
                if answer[9:12] in (b"200", b"401", b"404") or answer[3:4] == b"\x04":
                    return
        except OSError:
            pass
        time.sleep(0.1)
    raise RuntimeError(
        f"it does not answer after {START_SECONDS:.0f} s: {log.read_text(errors='replace')[-400:].strip()}"
    )


def _family(pid: int) -> list[int]:
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def cpu_seconds(pid: int) -> float:
    """User and system time of the threads of a process and its children, in seconds; the kernel counts in nanoseconds here."""
    total = 0
    for member in _family(pid):
        for thread in Path(f"/proc/{member}/task").iterdir():
            total += int((thread / "schedstat").read_text(encoding="utf-8").split()[0])
    return total / 1e9


def resident_mib(pid: int) -> float:
    """Memory of a process and its children, in MiB."""
    total = 0.0
    for member in _family(pid):
        status = Path(f"/proc/{member}/status").read_text(encoding="utf-8")
        total += int(status.partition("VmRSS:")[2].split()[0]) / 1024
    return total
