"""Whether a running engine is healthy: samples in, a verdict out.

A process that lives and an HTTP side that answers prove little: the part that makes tokens may be dead behind them. What proves
that an engine serves is *movement* (its counters of prompt and answer tokens, or its use of the KV cache, change) or an answered
*canary* (a completion of one token that the agent asks for).

=================================================================  =======================================================
since the engine last proved itself                                 verdict
=================================================================  =======================================================
1. two canaries failed, and HTTP is silent for ``silent_seconds``  Hung, ``unresponsive``
2. two canaries failed                                             Hung, ``hung``
3. HTTP is silent for ``silent_seconds``                           Suspect: a canary decides
4. requests wait or run and nothing moved for ``hang_seconds``     Suspect: a canary decides
5. one canary failed                                               Suspect: another one decides
6. nothing is asked of it, and nothing moved for ``quiet_seconds``  Healthy, and a canary makes sure
7. anything else                                                   Healthy
=================================================================  =======================================================

A long prefill is no hang: a canary has to queue behind it, so one that found no answer counts only if nothing moved between its
being sent and its end; and the longest standstill that ended by itself, times three, becomes the new ``hang_seconds`` when that
is longer. An engine that does not count its tokens is judged by rows 1 and 3 alone: with a busy one of that kind, a canary
without an answer proves nothing, so it is forgotten as soon as HTTP answers again.

All times are seconds of one clock that never goes back.
"""

from dataclasses import dataclass, replace

CANARIES = 2
# A standstill may take this many times what the longest harmless one took.
STANDSTILL_FACTOR = 3.0

HUNG = "hung"
UNRESPONSIVE = "unresponsive"


@dataclass(frozen=True)
class HealthLimits:
    """When an engine is suspected, and how it is asked."""

    # Requests run, and nothing moves.
    hang_seconds: float = 60.0
    # No request runs, as far as the engine says.
    quiet_seconds: float = 60.0
    # HTTP does not answer.
    silent_seconds: float = 15.0
    # How long a canary may take, and the least time from one to the next.
    canary_seconds: float = 15.0
    # Between two looks at the engine's metrics, and at its health route.
    look_seconds: float = 1.0
    health_seconds: float = 5.0
    # What each of these may take.
    answer_seconds: float = 5.0


@dataclass(frozen=True)
class Look:
    """What an engine showed at ``at``; None is not known."""

    at: float
    # Whether its HTTP side answers at all.
    answers: bool
    # Requests that run or wait.
    requests: float | None = None
    # Whatever changes when the engine works, as one value to compare: its token counters and its KV use.
    progress: tuple[float, ...] | None = None


@dataclass(frozen=True)
class CanaryResult:
    """A canary sent at ``sent_at`` ended at ``at``; ``problem`` is empty when it was answered."""

    sent_at: float
    at: float
    problem: str = ""


@dataclass(frozen=True)
class HealthHistory:
    """What the samples so far come to. ``HealthHistory(now)`` for an engine that has just answered."""

    # When it last moved or answered a canary.
    proven_at: float
    # When it last moved.
    moved_at: float = float("-inf")
    # Since when requests wait for it without a move; None: nothing is asked of it.
    waiting_since: float | None = None
    requests: float = 0.0
    progress: tuple[float, ...] | None = None
    # Since when HTTP does not answer; None: it does.
    silent_since: float | None = None
    longest_standstill: float = 0.0
    failed_canaries: int = 0
    canary_sent_at: float | None = None
    last_problem: str = ""


@dataclass(frozen=True)
class Healthy:
    """Nothing speaks against it."""


@dataclass(frozen=True)
class Suspect:
    """It may be hung; ``reason`` is a sentence for people."""

    reason: str


@dataclass(frozen=True)
class Hung:
    """It is to be replaced; ``failure`` is the word for it, ``reason`` the sentence."""

    failure: str
    reason: str


Verdict = Healthy | Suspect | Hung


def after_look(history: HealthHistory, look: Look) -> HealthHistory:
    """The history with one more look at the engine."""
    silent_since = None if look.answers else look.at if history.silent_since is None else history.silent_since
    history = replace(history, silent_since=silent_since)
    if look.progress is None:
        counts = history.progress is not None
        return history if counts or not look.answers else replace(history, failed_canaries=0)
    requests = history.requests if look.requests is None else look.requests
    moved = history.progress is not None and look.progress != history.progress
    history = replace(history, progress=look.progress, requests=requests)
    if moved:
        stood = 0.0 if history.waiting_since is None else look.at - history.waiting_since
        history = replace(
            _proven(history, look.at), moved_at=look.at, longest_standstill=max(history.longest_standstill, stood)
        )
    if not requests:
        return replace(history, waiting_since=None)
    return replace(history, waiting_since=look.at if history.waiting_since is None else history.waiting_since)


def after_canary_sent(history: HealthHistory, now: float) -> HealthHistory:
    """The history when a canary is on its way."""
    return replace(history, canary_sent_at=now)


def after_canary(history: HealthHistory, result: CanaryResult) -> HealthHistory:
    """The history when a canary has ended."""
    if not result.problem:
        return _proven(history, result.at)
    if history.moved_at >= result.sent_at:
        return history
    return replace(history, failed_canaries=history.failed_canaries + 1, last_problem=result.problem)


def judge_health(history: HealthHistory, now: float, limits: HealthLimits) -> Verdict:
    """The verdict at ``now``; the numbers are the rows of the table above."""
    silent = 0.0 if history.silent_since is None else now - history.silent_since
    is_silent = history.silent_since is not None and silent >= limits.silent_seconds
    if history.failed_canaries >= CANARIES:
        if is_silent:  # 1
            failed = f"it has not answered HTTP for {silent:.0f} s although its process runs"
            return Hung(UNRESPONSIVE, f"{failed}; {_canaries(history)}")
        return Hung(HUNG, f"{_standstill(history, now)}; {_canaries(history)}")  # 2
    if is_silent:  # 3
        return Suspect(f"it has not answered HTTP for {silent:.0f} s; a completion of one token decides")
    stands = history.waiting_since is not None and now - history.waiting_since >= hang_seconds(history, limits)
    if stands or history.failed_canaries:  # 4, 5
        return Suspect(f"{_standstill(history, now)}; a completion of one token decides")
    return Healthy()  # 6, 7


def wants_canary(history: HealthHistory, now: float, limits: HealthLimits) -> bool:
    """Whether a canary is to be sent now. None may be on its way."""
    sent = history.canary_sent_at
    if sent is not None and now - sent < limits.canary_seconds:
        return False
    match judge_health(history, now, limits):
        case Suspect():
            return True
        case Healthy():
            counts = history.progress is not None
            return counts and history.waiting_since is None and now - history.proven_at >= limits.quiet_seconds
        case Hung():
            return False


def hang_seconds(history: HealthHistory, limits: HealthLimits) -> float:
    """How long requests may wait without a move."""
    return max(limits.hang_seconds, STANDSTILL_FACTOR * history.longest_standstill)


def _proven(history: HealthHistory, now: float) -> HealthHistory:
    waiting_since = None if history.waiting_since is None else now
    return replace(history, proven_at=now, waiting_since=waiting_since, failed_canaries=0, last_problem="")


def _standstill(history: HealthHistory, now: float) -> str:
    if history.waiting_since is None:
        return f"it has proved nothing for {now - history.proven_at:.0f} s, though no request runs by its own account"
    count = f"{history.requests:.0f} request" + ("" if history.requests == 1 else "s")
    return f"nothing moved for {now - history.waiting_since:.0f} s with {count} in it"


def _canaries(history: HealthHistory) -> str:
    return f"{history.failed_canaries} completions of one token failed, the last because {history.last_problem}"
