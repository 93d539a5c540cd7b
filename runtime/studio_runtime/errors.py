"""Refusals: what happened, to what, why, and what to do next; and the one table that maps them to gRPC and back.

A refusal is raised where the cause is known. Each layer above may add what it was doing with ``raise … from``; the text is
printed once, at the edge. Callers care about two kinds: retryable (the same call may succeed later) and fatal.
"""

from typing import ClassVar

import grpc
from google.protobuf.message import DecodeError
from studio.v1.admin_service_pb2 import ManifestProblem, ManifestProblems, Refusal

REFUSAL_KEY = "studio-refusal-bin"
PROBLEMS_KEY = "studio-problems-bin"
# Where the leader is, beside the refusal of a coordinator that stands by.
LEADER_KEY = "studio-leader"


class StudioError(Exception):
    """Something was refused or failed."""

    reason: ClassVar[str] = "failed"
    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class NotFoundError(StudioError):
    """There is no such thing."""

    reason = "not_found"
    code = grpc.StatusCode.NOT_FOUND


class ConflictError(StudioError):
    """It exists already, or changed since it was read."""

    reason = "conflict"
    code = grpc.StatusCode.ABORTED


class InvalidError(StudioError):
    """The request itself is wrong."""

    reason = "invalid"
    code = grpc.StatusCode.INVALID_ARGUMENT


class InvalidManifestError(InvalidError):
    """A manifest has problems; all of them, each with its path."""

    reason = "invalid_manifest"

    def __init__(self, message: str, problems: list[ManifestProblem]) -> None:
        super().__init__(message, "Nothing was changed. Mend what is listed and apply again.")
        self.problems = problems


class UnauthenticatedError(StudioError):
    """Who calls is not known: no token, or one that is not good."""

    reason = "unauthenticated"
    code = grpc.StatusCode.UNAUTHENTICATED


class DeniedError(StudioError):
    """The caller is known, and may not do this."""

    reason = "denied"
    code = grpc.StatusCode.PERMISSION_DENIED


class SafetyError(StudioError):
    """A safety rule refused it."""

    reason = "refused_by_safety"
    code = grpc.StatusCode.FAILED_PRECONDITION


class UnavailableError(StudioError):
    """A part that is needed does not answer now."""

    reason = "unavailable"
    code = grpc.StatusCode.UNAVAILABLE
    retryable = True


class NotLeadingError(UnavailableError):
    """The coordinator that was asked stands by: another leads, or nobody yet."""

    reason = "not_leading"

    def __init__(self, message: str, hint: str = "", leader: str = "") -> None:
        super().__init__(message, hint)
        # HOST:PORT; empty while nobody leads.
        self.leader = leader


class OverloadedError(StudioError):
    """Too much at once; try again later."""

    reason = "overloaded"
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    retryable = True


BY_CODE: dict[grpc.StatusCode, type[StudioError]] = {
    error.code: error
    for error in (
        NotFoundError,
        ConflictError,
        InvalidError,
        UnauthenticatedError,
        DeniedError,
        SafetyError,
        UnavailableError,
        OverloadedError,
        StudioError,
    )
}


def trailing_metadata(error: StudioError) -> tuple[tuple[str, str | bytes], ...]:
    """The details of ``error`` as gRPC trailers: a ``Refusal``, and ``ManifestProblems`` or the leader where it has them."""
    refusal = Refusal(reason=error.reason, message=error.message, hint=error.hint)
    trailers: list[tuple[str, str | bytes]] = [(REFUSAL_KEY, refusal.SerializeToString())]
    if isinstance(error, NotLeadingError) and error.leader:
        trailers.append((LEADER_KEY, error.leader))
    if isinstance(error, InvalidManifestError):
        # Trailers are bounded; the first problems are enough to work with.
        problems = ManifestProblems(problems=error.problems[:40])
        trailers.append((PROBLEMS_KEY, problems.SerializeToString()))
    return tuple(trailers)


def from_rpc_error(error: grpc.aio.AioRpcError, doing: str) -> StudioError:
    """Turn what a call raised back into the refusal it came from; ``doing`` is what the caller tried."""
    kind = BY_CODE.get(error.code(), StudioError)
    trailers = {key: value for key, value in error.trailing_metadata() or () if isinstance(value, bytes)}
    try:
        if PROBLEMS_KEY in trailers:
            problems = ManifestProblems.FromString(trailers[PROBLEMS_KEY]).problems
            return InvalidManifestError(Refusal.FromString(trailers[REFUSAL_KEY]).message, list(problems))
        if REFUSAL_KEY in trailers:
            refusal = Refusal.FromString(trailers[REFUSAL_KEY])
            if refusal.reason == NotLeadingError.reason:
                return NotLeadingError(refusal.message, refusal.hint, leader_of(error))
            return kind(refusal.message, refusal.hint)
    except DecodeError:
        pass
    return kind(f"{doing}: {error.details() or error.code().name.lower()}")


def leader_of(error: grpc.aio.AioRpcError) -> str:
    """The leader's address (HOST:PORT) that a coordinator standing by gave with its refusal; empty where it gave none."""
    return next(
        (value for key, value in error.trailing_metadata() or () if key == LEADER_KEY and isinstance(value, str)), ""
    )
