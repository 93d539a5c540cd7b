"""What one request may take, in bytes and seconds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one request; there is none on its whole duration."""

    body_bytes: int = 32 * 1024 * 1024
    # Between two parts of a request's body.
    body_idle_seconds: float = 30.0
    connect_seconds: float = 2.0
    # Until an engine begins to answer; for an answer that is no stream, that is the whole generation.
    first_byte_seconds: float = 600.0
    # Between two parts of an answer, whichever side is slow.
    idle_seconds: float = 300.0
    # For requests in flight when the process is asked to stop.
    drain_seconds: float = 10.0
