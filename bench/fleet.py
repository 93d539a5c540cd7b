"""What a fleet costs its coordinator, and how soon things happen: ``python bench/fleet.py``.

Simulated agents in a process of their own, each with a connection over mTLS, 8 GPUs and telemetry at 1 Hz; a real coordinator and
its database; for the delays a real agent, the demo engine and a real gateway beside the simulated fleet. Prints a table, writes
bench/out/fleet.json and docs/fleet.svg.

cpu          user and system time of the coordinator by the time that passed, in percent of one core
memory       its resident memory, and what it will be once the rings of telemetry are full (15 minutes)
reconnect    from SIGKILL of the coordinator, which is started again at once, until every agent has its Welcome
lag          the longest that the event loop of the new coordinator was late meanwhile
apply        from the call until the agent says that the engine's process was started
crash        from SIGKILL of the engine until the gateway has put a table without it in force
queries      statements that the coordinator sends to PostgreSQL in a minute

Nothing is asserted. Everything shares the machine's cores.
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
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from fakes.agent_process import AgentProcess  # noqa: E402 - found by the line above
from fakes.tls_fleet import TlsFleet  # noqa: E402 - as above
from fleet_plane import Crowd, Plane, Usage, at, running_plane, said_since  # noqa: E402 - needs the fakes
from plot import log_chart  # noqa: E402 - as above
from studio.v1.admin_service_pb2 import (  # noqa: E402 - as above
    ApplyRequest,
    DeleteDeploymentRequest,
    ListDeploymentsRequest,
    ListReplicasRequest,
)
from studio.v1.admin_service_pb2_grpc import AdminServiceStub  # noqa: E402 - as above
from studio.v1.replica_pb2 import Replica  # noqa: E402 - as above
from studio_runtime.channel import open_channel  # noqa: E402 - as above
from studio_runtime.settings import Address  # noqa: E402 - as above
from studio_runtime.tls import ClientTls  # noqa: E402 - as above

OUT = ROOT / "bench" / "out" / "fleet.json"
PLOT = ROOT / "docs" / "fleet.svg"
SIZES = (200, 500, 1000, 2000)
SETTLE_SECONDS = 20.0
MANIFEST = """
kind: Recipe
name: {name}
engine: {{name: demo}}
---
kind: Deployment
name: {name}
recipe: {name}
placement: {{labels: {{pool: real}}}}
"""


@dataclass(frozen=True)
class Return:
    """How the fleet came back."""

    seconds: float
    lag_ms: float
    attempts: int


@dataclass(frozen=True)
class Delays:
    """Milliseconds of each event."""

    started: Sequence[float]
    withdrawn: Sequence[float]


async def come_back(plane: Plane, crowd: Crowd, hosts: int) -> Return:
    """Kill the coordinator, start it again, and wait for everybody."""
    failures, killed = crowd.failures, time.monotonic()
    crowd.history.clear()
    await plane.kill_coordinator()
    await plane.start_coordinator()
    async with asyncio.timeout(400):
        # Some have not noticed yet that the old one is gone.
        while not (crowd.connected == hosts and any(number < hosts for _, number in crowd.history)):  # noqa: ASYNC110 - another process says it
            await asyncio.sleep(0.05)
    back = max(moment for moment, number in crowd.history if number == hosts)
    await asyncio.sleep(2)
    lag = (await plane.metrics())["studio_coordinator_loop_lag_longest_seconds"]
    return Return(back - killed, lag * 1000, crowd.failures - failures + hosts)


class Operator:
    """Applies, waits and kills, and notes how long it took."""

    def __init__(self, fleet: TlsFleet, agent: AgentProcess, admin: Any) -> None:
        self._fleet = fleet
        self._agent_log = agent.folder / "agent.log"
        self._gateway_log = fleet.folder / "gateway.log"
        self._admin = admin
        token = (fleet.folder / "coordinator" / "local-token").read_text().strip()
        self._metadata = (("authorization", f"Bearer {token}"),)

    async def one(self, number: int) -> tuple[float, float]:
        """One deployment: milliseconds until its engine was started, and from its crash until it was out of the gateway."""
        name = f"b{number}"
        offset, began = self._agent_log.stat().st_size, time.time()
        await self._admin.Apply(ApplyRequest(manifest=MANIFEST.format(name=name)), metadata=self._metadata)
        started = await self._line(self._agent_log, offset, "engine_started", began)
        replica = await self._ready(name)
        offset, killed = self._gateway_log.stat().st_size, time.time()
        os.kill(replica.pid, signal.SIGKILL)
        withdrawn = await self._line(self._gateway_log, offset, "routes_in_force", killed)
        await self._admin.DeleteDeployment(DeleteDeploymentRequest(name=name), metadata=self._metadata)
        await self._gone()
        return (started - began) * 1000, (withdrawn - killed) * 1000

    async def _ready(self, deployment: str) -> Replica:
        async with asyncio.timeout(60):
            while True:
                request = ListReplicasRequest(deployment=deployment)
                rows = (await self._admin.ListReplicas(request, metadata=self._metadata)).replicas
                if rows and rows[0].state == Replica.STATE_READY:
                    return rows[0]
                await asyncio.sleep(0.1)

    async def _gone(self) -> None:
        """Wait until no deployment is left, and a moment longer, so that the next one finds everybody at rest."""
        async with asyncio.timeout(60):
            while (await self._admin.ListDeployments(ListDeploymentsRequest(), metadata=self._metadata)).deployments:  # noqa: ASYNC110 - another process says it
                await asyncio.sleep(0.1)
        await asyncio.sleep(0.3)

    @staticmethod
    async def _line(log: Path, offset: int, event: str, since: float) -> float:
        """When ``event`` was first logged after ``since``."""
        async with asyncio.timeout(60):
            while True:
                for line in said_since(log, offset, event):
                    if at(line) >= since:
                        return at(line)
                await asyncio.sleep(0.02)


async def delays(plane: Plane, events: int) -> Delays:
    """How soon the real parts do what is asked, beside the simulated fleet."""
    async with plane.real_parts() as (fleet, agent):
        tls = ClientTls.trusting(plane.folder / "coordinator" / "authorities.pem")
        async with open_channel(Address("127.0.0.1", plane.admin_port), tls) as channel:
            operator = Operator(fleet, agent, AdminServiceStub(channel))
            # The first one starts from files that nobody has read yet.
            await operator.one(0)
            each = [await operator.one(number) for number in range(1, events + 1)]
    return Delays([started for started, _ in each], [withdrawn for _, withdrawn in each])


async def measure(folder: Path, sizes: Sequence[int], seconds: float, events: int) -> dict[str, Any]:
    """Every figure."""
    usages: dict[int, Usage] = {}
    figures: dict[str, Any] = {}
    for hosts in sizes:
        async with running_plane(folder / str(hosts)) as plane, plane.crowd(hosts) as crowd:
            await asyncio.sleep(SETTLE_SECONDS)
            usages[hosts] = await plane.usage(seconds)
            _tell(hosts, usages[hosts])
            if hosts == sizes[-1]:
                figures |= await _largest(plane, crowd, hosts, events)
    largest = usages[sizes[-1]]
    return (
        {
            "hosts": sizes[-1],
            "cpu_percent_of_core": round(largest.cpu_percent, 1),
            "rss_mb": round(largest.rss_mb),
        }
        | figures
        | {f"db_queries_per_min_{hosts}": round(usages[hosts].statements_per_minute) for hosts in (sizes[0], sizes[-1])}
        | {"cost": {hosts: vars(usage) for hosts, usage in usages.items()}}
    )


async def _largest(plane: Plane, crowd: Crowd, hosts: int, events: int) -> dict[str, Any]:
    rings = (await plane.metrics())["studio_coordinator_telemetry_ring_bytes"]
    moments = await delays(plane, events)
    back = await come_back(plane, crowd, hosts)
    for name, values, goal in (
        ("apply → started", moments.started, 150),
        ("crash → withdrawn", moments.withdrawn, 250),
    ):
        print(f"  {name:18} p50 {median(values):.0f}  p99 {p99(values):.0f} ms of {len(values)}   (goal: {goal} ms)")
    print(f"  all back after {back.seconds:.1f} s, {back.attempts} attempts   (goal: 60 s)")
    print(f"  loop lag meanwhile {back.lag_ms:.0f} ms   (goal: 500 ms)")
    return {
        "rings_mb": round(rings / 1e6, 1),
        "reconnect_all_s": round(back.seconds, 1),
        "loop_lag_ms_max": round(back.lag_ms),
        "apply_to_started_ms_p50": round(median(moments.started)),
        "apply_to_started_ms_p99": round(p99(moments.started)),
        "crash_to_withdrawn_ms_p50": round(median(moments.withdrawn)),
        "crash_to_withdrawn_ms_p99": round(p99(moments.withdrawn)),
        "events": len(moments.started),
    }


def p99(values: Sequence[float]) -> float:
    """The smallest value that 99 % do not exceed; of less than a hundred the greatest."""
    return sorted(values)[ceil(0.99 * len(values)) - 1]


def _tell(hosts: int, usage: Usage) -> None:
    print(
        f"{hosts:5} hosts  cpu {usage.cpu_percent:5.1f} % of a core  memory {usage.rss_mb:4.0f} MB  "
        f"queries {usage.statements_per_minute:4.0f} in {usage.transactions_per_minute:3.0f} transactions a minute  "
        f"lag {usage.lag_ms:.0f} ms",
        flush=True,
    )


def draw(cost: dict[int, dict[str, float]]) -> str:
    """Cost against hosts."""
    lines = {
        "CPU, % of a core": "cpu_percent",
        "memory, MB": "rss_mb",
        "queries a minute": "statements_per_minute",
    }
    series = {label: [(hosts, max(usage[name], 0.1)) for hosts, usage in cost.items()] for label, name in lines.items()}
    return log_chart("The coordinator beside its fleet (8 GPUs a host, 1 Hz, mTLS)", "hosts", "cost", series)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hosts", type=int, nargs="+", default=list(SIZES), help="fleet sizes, the largest last")
    parser.add_argument("--seconds", type=float, default=45.0, help="how long each size is measured (%(default)s)")
    parser.add_argument("--events", type=int, default=120, help="starts and crashes (%(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="studio-bench-fleet-") as folder:
        figures = asyncio.run(measure(Path(folder), options.hosts, options.seconds, options.events))
    if len(figures["cost"]) > 1:
        PLOT.write_text(draw(figures["cost"]))
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(figures, indent=2) + "\n")
    print(f"written: {OUT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
