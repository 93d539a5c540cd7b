"""Why an engine ended: a name for it, by a table over the end of its log.

The cause is seldom in the last line: a worker fails first, its parents report that it failed. So specific rules are tried on all
lines from the first error on, the earliest match wins, and *wrappers* (rules that only say "something below failed") come last.
"""

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from studio.v1.replica_pb2 import Failure

# What stands before the text itself, in the forms of vLLM ("(EngineCore pid=12) ERROR 11-24 18:00:00 [core.py:1] "), SGLang
# ("[2026-11-24 18:00:00 TP0] ") and TabbyAPI ("2026-11-24 18:00:00.000 ERROR:    ").
PREFIX = re.compile(
    r"^(?:\([^)]*pid=\d+\)\s*)?"
    r"(?:[A-Z]+ \d\d-\d\d \d\d:\d\d:\d\d (?:\[[^\]]*\] ?)?"
    r"|\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[^\]]*\] "
    r"|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ [A-Z]+:\s*)?"
)
# llama.cpp prints no level; what it cannot go on from it calls an error or a failure.
ERROR_LINE = re.compile(
    r"\b(?:ERROR|CRITICAL)\b|Traceback \(most recent call last\)|\berror\b|: failed to |failed: |couldn't bind"
)
EXCEPTION = re.compile(r"^[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit)\b(?::|$)")
CAUSE_LINE_CHARACTERS = 500


@dataclass(frozen=True)
class FailureRule:
    """One row: what it is called, how it shows in a line without its prefix, what to say.

    ``message`` may use the groups of ``pattern``. ``before`` and ``after``: the match counts only before the first, or after the
    last, line that holds that text. A ``wrapper`` is tried after all others.
    """

    reason: str
    pattern: re.Pattern[str]
    message: str
    hint: str
    retryable: bool
    before: str = ""
    after: str = ""
    wrapper: bool = False


def rule(
    reason: str,
    pattern: str,
    message: str,
    hint: str,
    *,
    retryable: bool = False,
    before: str = "",
    after: str = "",
    wrapper: bool = False,
) -> FailureRule:
    """A row of a failure table."""
    return FailureRule(reason, re.compile(pattern), message, hint, retryable, before, after, wrapper)


def classify(lines: Sequence[str], exit_code: int | None, rules: Sequence[FailureRule]) -> Failure:
    """Name the failure. ``exit_code`` is negative for a signal, None where it could not be seen; `at` is left to the caller."""
    first_error = next((index for index, line in enumerate(lines) if _is_error(line)), 0)
    for wrappers in (False, True):
        candidates = [row for row in rules if row.wrapper == wrappers]
        for index in range(first_error, len(lines)):
            for row in candidates:
                text = _text(lines[index])
                found = row.pattern.search(text)
                if found and _in_place(row, lines, index):
                    cause = _root_cause(lines[first_error:]) if wrappers else text
                    return _failure(row, found, cause, exit_code)
    failure = Failure(
        reason="exited",
        message=f"The engine {how_it_ended(exit_code)}, and nobody had asked it to.",
        hint="Read its log: `studio logs`." if lines else "It wrote no log.",
        cause_line=_root_cause(lines[first_error:])[:CAUSE_LINE_CHARACTERS],
        retryable=True,
    )
    if exit_code is not None:
        failure.exit_code = exit_code
    return failure


def how_it_ended(exit_code: int | None) -> str:
    """The end of a sentence that begins with the process: what happened to it, and what that often means."""
    if exit_code is None:
        return "is gone"
    if exit_code >= 0:
        return f"exited with code {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    often = " (often the kernel, when the host's memory is full)" if name == "SIGKILL" else ""
    return f"was killed by {name}{often}"


def _in_place(row: FailureRule, lines: Sequence[str], index: int) -> bool:
    if row.before and any(row.before in line for line in lines[:index]):
        return False
    return not row.after or any(row.after in line for line in lines[:index])


def _failure(row: FailureRule, found: re.Match[str], cause: str, exit_code: int | None) -> Failure:
    failure = Failure(
        reason=row.reason,
        message=row.message.format_map(found.groupdict()),
        hint=row.hint,
        cause_line=cause[:CAUSE_LINE_CHARACTERS],
        retryable=row.retryable,
    )
    if exit_code is not None:
        failure.exit_code = exit_code
    return failure


def _root_cause(lines: Sequence[str]) -> str:
    """The first exception, else the first error, else the last line that says something."""
    said = [(line, text) for line in lines if (text := _text(line))]
    exceptions = (text for _, text in said if EXCEPTION.match(text))
    errors = (text for line, text in said if ERROR_LINE.search(line) and "Traceback" not in text)
    return next(exceptions, next(errors, said[-1][1] if said else ""))


def _is_error(line: str) -> bool:
    return bool(ERROR_LINE.search(line) or EXCEPTION.match(_text(line)))


def _text(line: str) -> str:
    """``line`` as it shows on a terminal, without the log's prefix."""
    shown = line.rstrip().rpartition("\r")[2]
    return PREFIX.sub("", shown, count=1).strip()
