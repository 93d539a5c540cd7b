"""A line in the log for each request, where the operator wants one: what its usage record says, and nothing of what was said."""

from collections.abc import Callable

import structlog
from studio.v1.route_pb2 import UsageRecord

log = structlog.get_logger()


def logged(record: Callable[[UsageRecord], None]) -> Callable[[UsageRecord], None]:
    """``record``, with a line in the log before it."""

    def told(usage: UsageRecord) -> None:
        log.info(
            "request",
            request=usage.request_id,
            key=usage.key_id,
            tenant=usage.tenant,
            model=usage.model,
            replica=usage.replica_id,
            path=usage.path,
            status=usage.status,
            finish=usage.finish,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            seconds=round(usage.duration_seconds, 3),
        )
        record(usage)

    return told
