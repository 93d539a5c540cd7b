"""What one request may take, in bytes and seconds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one request; there is none on its whole duration."""

    # From the first byte of a request until its head is whole.
    head_seconds: float = 10.0
    body_bytes: int = 32 * 1024 * 1024
    # Between two parts of a request's body.
    body_idle_seconds: float = 30.0
    # Whole: a body that comes in drops holds its memory no longer than this.
    body_seconds: float = 600.0
    # Between two requests on a connection: longer than clients keep one, so that it is they who close it.
    keep_alive_seconds: float = 75.0
    # Brackets within brackets in a JSON body.
    json_depth: int = 200
    # Requests of one key at the same time, in one worker.
    requests_per_key: int = 1024
    connect_seconds: float = 2.0
    # Until an engine begins to answer; for an answer that is no stream, that is the whole generation.
    first_byte_seconds: float = 600.0
    # Between two parts of an answer, whichever side is slow.
    idle_seconds: float = 300.0
    # For requests in flight when the process is asked to stop.
    drain_seconds: float = 10.0
    # For requests in flight when another worker has taken over.
    retire_seconds: float = 3600.0
