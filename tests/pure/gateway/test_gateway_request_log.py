from builders import a_usage_record
from structlog.testing import capture_logs
from studio.v1.route_pb2 import UsageRecord
from studio_gateway.request_log import logged


def test_a_request_is_told_and_recorded():
    kept: list[UsageRecord] = []
    usage = a_usage_record("req-1", prompt_tokens=7, completion_tokens=3)
    with capture_logs() as lines:
        logged(kept.append)(usage)
    assert kept == [usage]
    (line,) = lines
    assert (line["event"], line["request"], line["key"], line["prompt_tokens"]) == ("request", "req-1", "k1", 7)
