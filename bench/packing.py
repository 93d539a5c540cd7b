"""Packing against the optimum: 200 seeded fleets, each small enough to be solved exactly.

The optima are kept in `bench/data/packing_optima.json`, with a digest of the puzzles they belong to, so that the comparison needs
no solver. Puzzles that changed have to be solved anew: `python bench/scheduler.py --packing --solver PYTHON`, where PYTHON is an
interpreter that has OR-tools.
"""

import hashlib
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from random_fleets import Puzzle, place_all, puzzle
from studio_coordinator.plan.feasible import host_refusal
from studio_coordinator.plan.fleet import Fleet
from studio_coordinator.plan.gpus import unfit
from studio_coordinator.plan.order import order_key

OPTIMA = Path(__file__).parent / "data" / "packing_optima.json"
PUZZLES = 200


@dataclass(frozen=True)
class Packing:
    """Placed GPU demand as a share of the most that was possible."""

    ratios: Sequence[float]
    proven: int

    @property
    def mean(self) -> float:
        """On average."""
        return mean(self.ratios)

    @property
    def worst(self) -> float:
        """In the worst fleet."""
        return min(self.ratios)


def measure(solver: str | None) -> Packing:
    """Place every puzzle and compare."""
    puzzles = [puzzle(seed) for seed in range(PUZZLES)]
    questions = [json.dumps(_question(item), sort_keys=True) for item in puzzles]
    digest = hashlib.sha256("\n".join(questions).encode()).hexdigest()
    optima = _optima(questions, digest, solver)
    ratios = [
        _placed(item) / answer["optimum"] if answer["optimum"] else 1.0
        for item, answer in zip(puzzles, optima, strict=True)
    ]
    return Packing(ratios, sum(answer["proven"] for answer in optima))


def _placed(item: Puzzle) -> float:
    fleet = Fleet.of(item.hosts)
    return sum(wish.gpus.demand for wish in place_all(fleet, sorted(item.wishes, key=order_key)).values())


def _optima(questions: Sequence[str], digest: str, solver: str | None) -> list[dict[str, Any]]:
    if solver is not None:
        program = str(Path(__file__).parent / "packing_optimum.py")
        done = subprocess.run(
            [solver, program], input="\n".join(questions), stdout=subprocess.PIPE, text=True, check=True
        )
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        OPTIMA.parent.mkdir(exist_ok=True)
        rows = ",\n".join(json.dumps(answer) for answer in answers)
        OPTIMA.write_text(f'{{"digest": "{digest}", "optima": [\n{rows}\n]}}\n')
        return answers
    stored = json.loads(OPTIMA.read_text())
    if stored["digest"] != digest:
        raise SystemExit("the puzzles changed since their optima were computed: run with --packing --solver PYTHON")
    return stored["optima"]


def _question(item: Puzzle) -> dict[str, Any]:
    """What the solver needs to know: which wish may go on which GPU, by the scheduler's own rules for an empty fleet."""
    views = Fleet.of(item.hosts).views
    gpus = [(view, position) for view in views for position in range(len(view.devices))]
    return {
        "gpus": [view.ordinal for view, _ in gpus],
        "wishes": [
            {
                "count": wish.gpus.count,
                "demand": wish.gpus.demand,
                "shares": {
                    str(number): wish.gpus.share_of(view.devices[position].memory_bytes)
                    for number, (view, position) in enumerate(gpus)
                    if not host_refusal(view, wish, ()) and not unfit(view.devices[position], wish.gpus)
                },
            }
            for wish in item.wishes
        ],
    }
