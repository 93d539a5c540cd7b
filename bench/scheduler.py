"""The scheduler's speed on one core, and its packing against the optimum.

    python bench/scheduler.py [--speed] [--packing [--solver PYTHON]] [--plot docs/scheduling.svg]

Without a choice both are measured. Prints a table and writes bench/out/scheduler.json. What is timed is the plan's own code on
messages in memory: no database, no network, no agent. Times are CPU time of one core.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median
from time import process_time

import packing
from plot import log_chart
from random_fleets import GIB, churned, large_fleet, mixed_fleet, mixed_wishes, place_all
from studio_coordinator.plan.fleet import Fleet
from studio_coordinator.plan.place import place
from studio_coordinator.plan.wish import GpuNeed, Wish

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "bench" / "out" / "scheduler.json"
SAMPLES = 500
SHARE_FULL = 0.9
PLOTTED_HOSTS = (30, 100, 300, 1_000, 3_000, 10_000)
PUBLISHED = """published figures of peers, not measured here, of whole control planes rather than of a placement function:
  Nomad C2M: about 1,500 containers/s (2,000,000 on 6,100 hosts in 22 min 14 s)
  kube-scheduler: 180 pods/s is the floor its CI demands with a GPU-like extended resource on 5,000 nodes"""


@dataclass(frozen=True)
class FromEmpty:
    """Many replicas at once, on empty hosts."""

    placed: int
    build_seconds: float
    place_seconds: float

    @property
    def per_second(self) -> float:
        """Placements per second, the building of the index included."""
        return self.placed / (self.build_seconds + self.place_seconds)


@dataclass(frozen=True)
class OneMore:
    """One more replica on a loaded fleet, in milliseconds."""

    hosts: int
    # How many of `SAMPLES` found room: only these are timed.
    placed: int
    build: float
    p50: float
    p99: float
    # A replica that no host can take, with the reason of every host.
    refused: float


def from_empty(hosts: int, replicas: int) -> FromEmpty:
    """Place ``replicas`` of 1, 2, 4 and 8 GPUs on ``hosts`` alike hosts with 8."""
    messages = large_fleet(hosts)
    wishes = mixed_wishes(Random(1), replicas)
    started = process_time()
    fleet = Fleet.of(messages)
    built = process_time()
    placed = place_all(fleet, wishes)
    return FromEmpty(len(placed), built - started, process_time() - built)


def one_more(hosts: int) -> OneMore:
    """Time single placements on a fleet of mixed hosts with a history; every wish is one that was not asked before."""
    random = Random(2)
    messages = mixed_fleet(random, hosts)
    build = _milliseconds(lambda: Fleet.of(messages))
    fleet = churned(random, messages, SHARE_FULL)
    times = []
    for number in range(SAMPLES):
        need = GpuNeed(random.choice((1, 1, 1, 2, 2, 4, 8)), memory_bytes=random.choice((16, 40, 70)) * GIB + number)
        labels = (("rack", str(random.randrange(20))),) if number % 4 == 0 else ()
        wish = Wish(f"new{number}", need, labels=labels, pack=number % 2 == 0)
        took = _milliseconds(lambda wish=wish: fleet.best(wish))
        if fleet.best(wish) is not None:
            times.append(took)
    impossible = Wish("huge", GpuNeed(16))
    refused = _milliseconds(lambda: place(fleet, impossible))
    return OneMore(hosts, len(times), build, median(times), sorted(times)[int(0.99 * len(times))], refused)


def _milliseconds(work: Callable[[], object]) -> float:
    started = process_time()
    work()
    return (process_time() - started) * 1000


def _measure_speed(plot: Path | None) -> dict[str, float]:
    empty = from_empty(1_000, 4_000)
    print(f"from empty, 1,000 hosts x 8 GPUs, {empty.placed:,} of 4,000 replicas of 1, 2, 4 and 8 GPUs placed")
    print(f"  {empty.per_second:10,.0f} placements/s, with building the index ({empty.build_seconds * 1000:.0f} ms)")
    print(f"one more replica on a mixed fleet, {SHARE_FULL:.0%} full, with a history; milliseconds")
    print(f"  {'hosts':>8} {'placed':>7} {'p50':>8} {'p99':>8} {'refused':>9} {'build':>8}")
    rows: Sequence[OneMore] = [one_more(hosts) for hosts in (PLOTTED_HOSTS if plot else PLOTTED_HOSTS[-1:])]
    for row in rows:
        print(
            f"  {row.hosts:>8,} {row.placed:>7} {row.p50:>8.3f} {row.p99:>8.3f} {row.refused:>9.1f} {row.build:>8.1f}"
        )
    print(PUBLISHED)
    if plot is not None:
        series = {
            "p50": [(row.hosts, row.p50) for row in rows],
            "p99": [(row.hosts, row.p99) for row in rows],
            "refusal with reasons": [(row.hosts, row.refused) for row in rows],
            "building the index": [(row.hosts, row.build) for row in rows],
        }
        title = "One more replica on a fleet that is 90 % full"
        plot.write_text(log_chart(title, "hosts", "milliseconds", series))
    return {
        "placements_per_s_1000_hosts": round(empty.per_second),
        "one_more_ms_p99_10000_hosts": round(rows[-1].p99, 3),
        "one_more_ms_p50_10000_hosts": round(rows[-1].p50, 3),
        "refusal_ms_10000_hosts": round(rows[-1].refused, 1),
        "build_ms_10000_hosts": round(rows[-1].build, 1),
    }


def _measure_packing(solver: str | None) -> dict[str, float]:
    result = packing.measure(solver)
    print(f"packing, {len(result.ratios)} random fleets: placed GPU demand against the optimum")
    print(
        f"  mean {result.mean:.2%}, worst {result.worst:.2%}, optimum proven for {result.proven} of {len(result.ratios)}"
    )
    return {
        "packing_mean_vs_optimum": round(result.mean, 4),
        "packing_worst_vs_optimum": round(result.worst, 4),
        "packing_fleets": len(result.ratios),
        "packing_optima_proven": result.proven,
    }


def main() -> None:
    """Measure what was asked for; figures that were not measured anew stay in the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--speed", action="store_true", help="only the speed")
    parser.add_argument("--packing", action="store_true", help="only the packing")
    parser.add_argument("--solver", help="an interpreter that has OR-tools: compute the optima anew")
    parser.add_argument("--plot", type=Path, help="write the cost against the number of hosts as SVG")
    options = parser.parse_args()
    both = options.speed == options.packing
    figures = json.loads(OUT.read_text()) if OUT.exists() else {}
    if both or options.speed:
        figures |= _measure_speed(options.plot)
    if both or options.packing:
        figures |= _measure_packing(options.solver)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
