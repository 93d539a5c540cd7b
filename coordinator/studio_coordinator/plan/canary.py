"""Whether a new revision does as well as the old one, judged by what the gateways saw of both.

1. Fewer answers than ``min_requests``: not judged yet.
2. Its share of failed requests is above the old one's by more than ``max_error_share``: unhealthy, at once.
3. Watched for less than ``for``: not judged yet. First answers are slow, so latency is looked at only after that.
4. Its median time to first token is more than ``max_latency_ratio`` times the old one's, both with enough answers: unhealthy.
5. Else: healthy.
"""

from dataclasses import dataclass
from enum import Enum, auto

from studio.v1.deployment_pb2 import CanaryPolicy, TrafficFigures

MAX_ERROR_SHARE = 0.02
MAX_LATENCY_RATIO = 2.0
MIN_REQUESTS = 20


@dataclass(frozen=True)
class Figures:
    """What the gateways saw of one revision's replicas while the canary was watched."""

    requests: int = 0
    # Ended by the engine's fault.
    failed: int = 0
    # Requests of which the time to the first token is known, and the median of those times.
    timed: int = 0
    median_seconds: float | None = None

    @property
    def failed_share(self) -> float:
        """0 to 1; 0 without requests."""
        return self.failed / self.requests if self.requests else 0.0

    @property
    def message(self) -> TrafficFigures:
        """For the contract."""
        return TrafficFigures(
            requests=self.requests, failed=self.failed, time_to_first_token_p50_seconds=self.median_seconds
        )


@dataclass(frozen=True)
class Watched:
    """Both revisions since the canary began to be watched."""

    seconds: float = 0.0
    old: Figures = Figures()
    new: Figures = Figures()


class Verdict(Enum):
    """What the figures say."""

    NOT_YET = auto()
    HEALTHY = auto()
    UNHEALTHY = auto()


def judge(policy: CanaryPolicy, watched: Watched) -> tuple[Verdict, str]:
    """The verdict on the new revision, with the sentence that says why."""
    old, new = watched.old, watched.new
    least = policy.min_requests if policy.HasField("min_requests") else MIN_REQUESTS
    if new.requests < least:
        return Verdict.NOT_YET, f"{new.requests} of the {least} requests that it is judged by have been answered"
    allowed = policy.max_error_share if policy.HasField("max_error_share") else MAX_ERROR_SHARE
    failed = f"{new.failed} of {new.requests} requests failed, {old.failed} of {old.requests} of the old revision"
    if new.failed_share > old.failed_share + allowed:
        return Verdict.UNHEALTHY, f"{failed}: more than {allowed:.1%} above it"
    span = getattr(policy, "for").ToTimedelta().total_seconds()
    if watched.seconds < span:
        return Verdict.NOT_YET, f"watched for {watched.seconds:.0f} of {span:.0f} s; {failed}"
    ratio = policy.max_latency_ratio if policy.HasField("max_latency_ratio") else MAX_LATENCY_RATIO
    if old.median_seconds is None or new.median_seconds is None or min(old.timed, new.timed) < max(1, least):
        return Verdict.HEALTHY, failed
    latency = f"first token after {new.median_seconds:.3g} s, {old.median_seconds:.3g} s of the old revision"
    if new.median_seconds > ratio * old.median_seconds:
        return Verdict.UNHEALTHY, f"{latency}: more than {ratio:g} times as long"
    return Verdict.HEALTHY, f"{failed}; {latency}"
