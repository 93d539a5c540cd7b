"""The lines of a Prometheus page: name, histogram bound, value.

A page is read every second from every engine, and of each line only these three are wanted. The general parser that also keeps
all labels, types and help texts took half of the agent's time; tests hold this one against it.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

# NAME, {LABELS} where there are any, VALUE, and a timestamp where there is one. Quoted values may hold everything, escaped.
SAMPLE = re.compile(
    r"""([a-zA-Z_:][a-zA-Z0-9_:]*)[ \t]*(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})?[ \t]*([^ \t]+)(?:[ \t]+-?[0-9]+)?[ \t]*"""
)
BOUND = re.compile(r'(?:^|,)[ \t]*le[ \t]*=[ \t]*"([^"\\]*)"')


class Sample(NamedTuple):
    """One line. ``bound``: the upper bound that a bucket of a histogram has; None elsewhere."""

    name: str
    bound: float | None
    value: float


def samples(page: str, names: tuple[str, ...]) -> Iterator[Sample]:
    """The samples whose names begin with one of ``names``, and the last line whatever it is: it may break off.

    Raises ValueError at a line that is none.
    """
    *lines, last = page.split("\n")
    for line in lines:
        # Of the hundreds of lines of a page most are of no interest, and to see that is most of the work.
        if line.startswith(names):
            yield _sample(line)
    if last and not last.startswith("#"):
        yield _sample(last)


def _sample(line: str) -> Sample:
    if (found := SAMPLE.fullmatch(line)) is None:
        raise ValueError(f"not a sample: {line[:80]!r}")
    name, labels, value = found.groups()
    bound = BOUND.search(labels) if labels else None
    return Sample(name, None if bound is None else float(bound[1]), float(value))
