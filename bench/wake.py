"""How much time waking takes beside the engine's own: ``python bench/wake.py [--runs N]``.

The whole system in processes of their own, with the demo engine, and one streamed request at a time for a model that is not up.
Prints a table and writes bench/out/wake.json.

stopped   the request finds no engine: from sending it to the first byte, less the engine's own time from the creation of its
          process to its log saying that it serves
asleep    the request finds an engine that sleeps: from sending it to the first byte; this engine wakes in no time itself

What lies between: the gateway holds the request and says so; the coordinator plans, commits and assigns; the agent writes its
ledger, starts or wakes the engine, proves it with a completion of one token and says so; the coordinator plans and commits the
route; the gateway puts it in force and forwards. Nothing is asserted. All of them, the database and this program share the
machine's cores, also while the engine loads.
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import httpx

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from fakes.whole_system import System, eventually, running_system  # noqa: E402 - found by the line above

OUT = ROOT / "bench" / "out" / "wake.json"
SERVES = b"Application startup complete"
LOOK_SECONDS = 0.002
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
MANIFEST = """
kind: Recipe
name: demo
engine: {name: demo}
args: {sleep_mode: true, demo: {load_seconds: 1}}
resources: {gpu: {count: 0}}
---
kind: Deployment
name: demo
recipe: demo
idle: {stop_after: 1h}
"""


class LogWatch(threading.Thread):
    """Notes when an engine's log says for the next time that it serves."""

    def __init__(self, home: Path) -> None:
        super().__init__(daemon=True)
        self._home = home
        self._before = self._count()
        self.serves_at = 0.0

    def run(self) -> None:
        """Look until it is there."""
        while self._count() <= self._before:
            time.sleep(LOOK_SECONDS)
        self.serves_at = time.clock_gettime(time.CLOCK_BOOTTIME)

    def _count(self) -> int:
        return sum(log.read_bytes().count(SERVES) for log in self._home.glob("**/engine.log"))


def created_at(pid: int) -> float:
    """When the process was created, by the clock since boot: to 10 ms, where the calendar's clock is off by up to a second."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return int(fields[19]) / TICKS_PER_SECOND


class Bench:
    """The system under test."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._client = httpx.Client(
            base_url=system.up["gateway_url"], headers={"Authorization": f"Bearer {system.up['api_key']}"}, timeout=60
        )

    def stopped(self) -> tuple[float, float]:
        """One request for a model without an engine: the whole wait and the engine's own part of it, in seconds."""
        self._system.studio("sleep", "demo", "--stop")
        log = LogWatch(self._system.home)
        log.start()
        whole = self._first_byte()
        log.join(10)
        return whole, log.serves_at - created_at(self._system.ready_replica(self._replica())["pid"])

    def asleep(self) -> float:
        """One request for a model whose engine sleeps: the whole wait in seconds."""
        self._system.studio("sleep", "demo")
        return self._first_byte()

    def _replica(self) -> str:
        return str(self._system.listed("ps")[0]["id"])

    def _first_byte(self) -> float:
        body = {"model": "demo", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4, "stream": True}
        sent = time.perf_counter()
        with self._client.stream("POST", "/v1/chat/completions", json=body) as answer:
            answer.raise_for_status()
            next(answer.iter_raw())
            return time.perf_counter() - sent


def main() -> None:
    """Run it and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="of each kind (default: 20)")
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder, running_system(Path(folder) / "home") as system:
        system.ready_replica()
        system.studio("apply", "-f", "-", stdin=MANIFEST)
        bench = Bench(system)
        eventually(lambda: _is_current(system))
        started = [bench.stopped() for _ in range(runs)]
        slept = [bench.asleep() for _ in range(runs)]
    report(started, slept)


def _is_current(system: System) -> bool:
    rows = system.listed("ps")
    return len(rows) == 1 and rows[0]["recipe_revision"] > 1 and rows[0]["state"] == "READY"


def report(started: Sequence[tuple[float, float]], slept: Sequence[float]) -> None:
    """Print the table and write it down."""
    over = [whole - engine for whole, engine in started]
    rows = {
        "stopped_overhead_ms": over,
        "stopped_engine_ms": [engine for _, engine in started],
        "asleep_overhead_ms": slept,
    }
    print(f"{'':24}{'median':>10}{'min':>10}{'max':>10}   ms, {len(slept)} runs each")
    figures = {}
    for name, seconds in rows.items():
        print(f"{name:24}{median(seconds) * 1e3:10.0f}{min(seconds) * 1e3:10.0f}{max(seconds) * 1e3:10.0f}")
        figures[name] = {"median": median(seconds) * 1e3, "min": min(seconds) * 1e3, "max": max(seconds) * 1e3}
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps({"runs": len(slept)} | figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
