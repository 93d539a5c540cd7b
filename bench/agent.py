"""What the agent costs its host, and how soon it tells: ``python bench/agent.py``.

One host with 8 simulated GPUs (a stand-in for NVIDIA's library, read through the real binding) and 8 demo engines, sampled at
1 Hz; a real agent process, and a coordinator that only listens. Prints a table and writes bench/out/agent.json.

memory    agent and GPU sampler together, once everything runs: RSS counts shared pages in both, PSS divides them, USS is
          what would be given back if they ended
cpu       user and system time of both over the period, of one core. The stand-in looks for errors of the GPUs in a loop where
          the real library sleeps in the driver: what a process takes that waits in it, and does nothing else, is shown beside
ready     from the engine's log saying that it serves, to the coordinator hearing READY; a one-token completion lies between
crash     from SIGKILL of the engine, to the coordinator hearing FAILED

Nothing is asserted. Engines, coordinator and this program share the machine's cores with the agent.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil
from google.protobuf.duration_pb2 import Duration
from studio.v1.assignment_pb2 import AssignedReplica
from studio.v1.replica_pb2 import Replica
from studio_agent.logfiles import read_piece

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from fakes.agent_process import AgentProcess, a_demo_replica  # noqa: E402 - found by the line above
from fakes.coordinator import FakeCoordinator  # noqa: E402 - as above
from fakes.nvml import FakeNvml  # noqa: E402 - as above

OUT = ROOT / "bench" / "out" / "agent.json"
GPUS = 8
MB = 1_000_000
# What an installation's coordinator asks for.
HEARTBEAT_SECONDS = 5.0
SETTLE_SECONDS = 10.0
SERVES = b"Application startup complete"
# As the sampler waits, in slices of the same length, and no more.
WAITS = """
import contextlib, pynvml
pynvml.nvmlInit()
events = pynvml.nvmlEventSetCreate()
while True:
    with contextlib.suppress(pynvml.NVMLError_Timeout):
        pynvml.nvmlEventSetWait_v2(events, 200)
"""
PEER = """peer: none measured. The worker of GPUStack 2.3.0 starts without Docker, but needs a server with a PostgreSQL or MySQL
of its own, and downloads tools from GitHub before it does anything; where this was written it could not, and ended."""


@dataclass(frozen=True)
class Memory:
    """Of agent and sampler together, in MB."""

    rss: float
    pss: float
    uss: float


@dataclass(frozen=True)
class Cpu:
    """Shares of one core."""

    agent: float
    sampler: float
    # Of the sampler's, what the stand-in library takes by itself.
    stand_in: float

    @property
    def share(self) -> float:
        """Agent and sampler, with the stand-in in it."""
        return self.agent + self.sampler


@dataclass(frozen=True)
class Delays:
    """Milliseconds of each event."""

    ready: Sequence[float]
    crash: Sequence[float]


class Host:
    """The agent under test with its engines, and what it says."""

    def __init__(self, agent: AgentProcess, coordinator: FakeCoordinator, uuids: Sequence[str]) -> None:
        self._agent = agent
        self._coordinator = coordinator
        self._replicas: list[AssignedReplica] = []
        for number, uuid in enumerate(uuids):
            replica = a_demo_replica(f"demo{number}-1", gpu_memory_bytes=0)
            replica.gpu_uuids.append(uuid)
            self._replicas.append(replica)

    async def start_all(self) -> None:
        """Assign every engine and wait until all serve."""
        self._coordinator.assign(*self._replicas)
        for replica in self._replicas:
            await self._coordinator.until_state(replica.replica_id, Replica.STATE_READY, timeout=60)

    def processes(self) -> list[psutil.Process]:
        """The agent and its GPU sampler."""
        agent = psutil.Process(self._agent.pid)
        return [agent, *(child for child in agent.children() if "studio_agent.gpu.child" in child.cmdline())]

    async def one_crash_and_start(self, number: int) -> tuple[float, float]:
        """Kill one engine, then have a new generation of it started: milliseconds until each was heard."""
        replica = self._replicas[number % len(self._replicas)]
        running = self._coordinator.observed[replica.replica_id]
        log = self._agent.state / "replicas" / replica.replica_id / "engine.log"
        offset = log.stat().st_size
        killed = time.monotonic()
        os.kill(running.pid, signal.SIGKILL)
        await self._coordinator.until_state(replica.replica_id, Replica.STATE_FAILED)
        crash = time.monotonic() - killed
        replica.generation += 1
        self._coordinator.assign(*self._replicas)
        serves = asyncio.ensure_future(_said(log, offset, SERVES))
        await self._coordinator.until_replica(
            replica.replica_id,
            lambda seen: seen.generation == replica.generation and seen.state == Replica.STATE_READY,
        )
        ready = time.monotonic() - await serves
        return ready * 1000, crash * 1000


async def _said(log: Path, offset: int, text: bytes) -> float:
    """When the log held ``text`` after ``offset``, to a millisecond (monotonic)."""
    while text not in read_piece(log, offset, 1 << 20):  # noqa: ASYNC110 - it is another process that writes
        await asyncio.sleep(0.001)
    return time.monotonic()


def _memory(processes: Sequence[psutil.Process]) -> Memory:
    each = [process.memory_full_info() for process in processes]
    return Memory(*(sum(getattr(info, name) for info in each) / MB for name in ("rss", "pss", "uss")))


def _cpu_seconds(processes: Sequence[psutil.Process]) -> list[float]:
    return [sum(process.cpu_times()[:2]) for process in processes]


async def _cpu(processes: Sequence[psutil.Process], nvml: FakeNvml, seconds: float) -> Cpu:
    """Of the agent, of its sampler, and of a process that only waits in the stand-in, over the same time."""
    waits = await asyncio.create_subprocess_exec(sys.executable, "-c", WAITS, env={**os.environ, **nvml.env()})
    try:
        await asyncio.sleep(SETTLE_SECONDS)
        watched = [*processes, psutil.Process(waits.pid)]
        before, began = _cpu_seconds(watched), time.monotonic()
        await asyncio.sleep(seconds)
        took = time.monotonic() - began
        shares = [(now - then) / took for now, then in zip(_cpu_seconds(watched), before, strict=True)]
        return Cpu(*shares)
    finally:
        waits.kill()
        await waits.wait()


async def measure(seconds: float, events: int, folder: Path) -> tuple[Memory, Cpu, Delays]:
    """Memory, CPU and delays."""
    coordinator = FakeCoordinator(heartbeat_seconds=HEARTBEAT_SECONDS, lease_seconds=30.0)
    coordinator.telemetry_interval = Duration(seconds=1)
    nvml_folder = folder / "nvml"
    nvml_folder.mkdir()
    with FakeNvml(nvml_folder) as nvml:
        uuids = [nvml.add_gpu() for _ in range(GPUS)]
        async with coordinator, AgentProcess(folder, coordinator.address, environment=nvml.env()) as agent:
            host = Host(agent, coordinator, uuids)
            await host.start_all()
            processes = host.processes()
            samples = len(coordinator.telemetry)
            cpu = await _cpu(processes, nvml, seconds)
            over = seconds + SETTLE_SECONDS
            print(f"over {over:.0f} s: {len(coordinator.telemetry) - samples} samples of {GPUS} GPUs and engines")
            memory = _memory(processes)
            for process in processes:
                one = _memory([process])
                print(f"  pid {process.pid:<7} RSS {one.rss:5.1f}  PSS {one.pss:5.1f}  USS {one.uss:5.1f} MB")
            delays = [await host.one_crash_and_start(number) for number in range(events)]
            return memory, cpu, Delays([ready for ready, _ in delays], [crash for _, crash in delays])


def p99(values: Sequence[float]) -> float:
    """The value that 99 % stay below; of few values the greatest."""
    return sorted(values)[min(len(values) - 1, int(0.99 * len(values)))]


def _print(memory: Memory, cpu: Cpu, delays: Delays) -> None:
    print(f"agent and sampler, {GPUS} GPUs and {GPUS} demo engines at 1 Hz")
    print(f"  memory           RSS {memory.rss:.1f}  PSS {memory.pss:.1f}  USS {memory.uss:.1f} MB   (goal: RSS 90 MB)")
    print(f"  cpu              {cpu.share:.2%} of one core   (goal: 2 %)")
    print(
        f"                   agent {cpu.agent:.2%}, sampler {cpu.sampler:.2%}, of which the stand-in {cpu.stand_in:.2%}"
    )
    for name, values, goal in (("ready → reported", delays.ready, 50), ("crash → reported", delays.crash, 100)):
        print(
            f"  {name} p50 {median(values):.1f}  p99 {p99(values):.1f} ms of {len(values)} events   (goal: {goal} ms)"
        )
    print(PEER)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the CPU is measured (%(default)s)")
    parser.add_argument("--events", type=int, default=56, help="crashes and starts (%(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="studio-bench-agent-") as folder:
        memory, cpu, delays = asyncio.run(measure(options.seconds, options.events, Path(folder)))
    _print(memory, cpu, delays)
    figures = {
        "rss_mb": round(memory.rss, 1),
        "pss_mb": round(memory.pss, 1),
        "uss_mb": round(memory.uss, 1),
        "cpu_percent_of_core": round(cpu.share * 100, 2),
        "cpu_percent_stand_in_nvml": round(cpu.stand_in * 100, 2),
        "ready_reported_ms_p50": round(median(delays.ready), 1),
        "ready_reported_ms_p99": round(p99(delays.ready), 1),
        "crash_reported_ms_p50": round(median(delays.crash), 1),
        "crash_reported_ms_p99": round(p99(delays.crash), 1),
        "events": len(delays.ready),
    }
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(figures, indent=2) + "\n")
    print(f"written: {OUT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
