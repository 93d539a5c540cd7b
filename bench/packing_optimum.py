"""The most GPU demand that could be placed, by OR-tools CP-SAT: what the scheduler's packing is measured against.

Runs in an interpreter of its own, because OR-tools pins another protobuf than we do. Reads puzzles as JSON from standard input,
one a line, and writes one line for each:

    {"gpus": [host of each GPU], "wishes": [{"count": 2, "demand": 2.0, "shares": {"GPU": part}}]}
    → {"optimum": 17.5, "proven": true}

``shares`` holds the GPUs on which the wish may go, with the part of each that it would take. Where the time was not enough to
prove the optimum, the upper bound is written: it can only make the scheduler look worse.
"""

import json
import sys
from collections import defaultdict
from typing import Any

from ortools.sat.python import cp_model

SECONDS = 60.0
# Shares and demands are whole numbers for the solver.
UNIT = 1000


def solve(puzzle: dict[str, Any]) -> dict[str, Any]:
    """One puzzle's answer."""
    model = cp_model.CpModel()
    loads: dict[int, list[Any]] = defaultdict(list)
    gains = []
    for number, wish in enumerate(puzzle["wishes"]):
        by_host: dict[int, list[tuple[int, float]]] = defaultdict(list)
        for gpu, share in wish["shares"].items():
            by_host[puzzle["gpus"][int(gpu)]].append((int(gpu), share))
        chosen = []
        for host, gpus in by_host.items():
            if len(gpus) < wish["count"]:
                continue
            here = model.new_bool_var(f"w{number}h{host}")
            chosen.append(here)
            used = []
            for gpu, share in gpus:
                use = model.new_bool_var(f"w{number}g{gpu}")
                used.append(use)
                loads[gpu].append(round(share * UNIT) * use)
            model.add(sum(used) == wish["count"] * here)
        if chosen:
            model.add_at_most_one(chosen)
            gains.append(round(wish["demand"] * UNIT) * sum(chosen))
    for parts in loads.values():
        model.add(sum(parts) <= UNIT)
    model.maximize(sum(gains))
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = SECONDS
    solver.parameters.num_workers = 2
    status = solver.solve(model)
    return {"optimum": solver.best_objective_bound / UNIT, "proven": status == cp_model.OPTIMAL}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(solve(json.loads(line))), flush=True)
