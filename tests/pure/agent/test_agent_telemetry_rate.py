"""Tokens per second out of two samples."""

from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from studio.v1.replica_pb2 import ReplicaFigures
from studio_agent.supervise.readings import with_rate


def figures(at: float, tokens: float | None) -> ReplicaFigures:
    made = ReplicaFigures(generation_tokens_total=tokens)
    made.at.CopyFrom(Timestamp(seconds=int(at), nanos=int(at % 1 * 1e9)))
    return made


def test_a_rate_needs_two_samples() -> None:
    assert with_rate(figures(10, 100), figures(8, 60)).generation_tokens_per_second == 20
    assert not with_rate(figures(10, 100), None).HasField("generation_tokens_per_second")
    assert not with_rate(figures(10, None), figures(8, 60)).HasField("generation_tokens_per_second")
    assert not with_rate(figures(10, 100), figures(8, None)).HasField("generation_tokens_per_second")


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e6))
def test_a_rate_is_never_negative(then: float, now: float, before: float, after: float) -> None:
    made = with_rate(figures(now, after), figures(then, before))
    if made.HasField("generation_tokens_per_second"):
        assert made.generation_tokens_per_second >= 0
