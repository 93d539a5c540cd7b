"""Rows of seconds to the mean and the highest value of a longer step."""

from array import array
from dataclasses import dataclass
from math import nan

from studio_coordinator.telemetry.block import Rows
from studio_coordinator.telemetry.fields import UNKNOWN
from studio_coordinator.telemetry.layout import Layout

# Lengths of the steps, in seconds: each divides a minute.
FINE_SECONDS = 10
COARSE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Rollup:
    """A host's figures over ``step`` seconds from ``start`` on. NaN where nothing is known."""

    layout: Layout
    step: int
    start: int
    # Single precision, in the order of the layout's columns.
    mean: "array[float]"
    highest: "array[float]"


def rollup(layout: Layout, step: int, start: int, rows: Rows) -> Rollup | None:
    """The rollup of ``rows``; None where not one value is known."""
    mean, highest = array("f"), array("f")
    known = False
    for column, field in zip(zip(*rows, strict=True), layout.fields, strict=True):
        values, top = column, max(column)
        if top == UNKNOWN:
            values = tuple(value for value in column if value != UNKNOWN)
            if not values:
                mean.append(nan)
                highest.append(nan)
                continue
            top = max(values)
        known = True
        mean.append(sum(values) * field.step / len(values))
        highest.append(top * field.step)
    return Rollup(layout, step, start, mean, highest) if known else None
