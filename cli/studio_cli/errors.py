"""How an error reaches a person, and what it means to a script.

==== ==========================================
exit meaning
==== ==========================================
0    done
1    failed
2    the command or a manifest is wrong
3    no such thing
4    conflict: it exists, or changed meanwhile
5    refused by a safety
6    the coordinator cannot be reached
7    not allowed: no token, or one that may not do this
==== ==========================================
"""

from collections.abc import Iterator

from studio.v1.admin_service_pb2 import ManifestProblem
from studio_runtime.errors import (
    ConflictError,
    DeniedError,
    InvalidError,
    InvalidManifestError,
    NotFoundError,
    SafetyError,
    StudioError,
    UnauthenticatedError,
    UnavailableError,
)


class UnreachableError(UnavailableError):
    """No coordinator answers; one that answers but cannot serve now is an UnavailableError."""

    reason = "unreachable"


EXIT_CODES: dict[type[StudioError], int] = {
    StudioError: 1,
    InvalidError: 2,
    NotFoundError: 3,
    ConflictError: 4,
    SafetyError: 5,
    UnreachableError: 6,
    UnauthenticatedError: 7,
    DeniedError: 7,
}


def exit_code(error: StudioError) -> int:
    """The exit code of the nearest listed class of ``error``."""
    return next(EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES)


def error_of(code: int) -> type[StudioError]:
    """The class of errors that ends a command with ``code``; for a command that ran another one."""
    return next((kind for kind, listed in EXIT_CODES.items() if listed == code), StudioError)


def explain(error: StudioError) -> Iterator[str]:
    """The lines that tell a person what happened, to what, why, and what to do next."""
    yield f"Error: {error.message}"
    if isinstance(error, InvalidManifestError):
        yield from (f"  {locate(problem)}{problem.message}" for problem in error.problems)
    if error.hint:
        yield error.hint


def locate(problem: ManifestProblem) -> str:
    """Where in a manifest a problem is: ``document 2, line 14, args.max_model_len: ``; empty where nothing is known."""
    parts = [
        f"document {problem.document}" if problem.document else "",
        f"line {problem.line}" if problem.line else "",
        problem.path,
    ]
    place = ", ".join(part for part in parts if part)
    return f"{place}: " if place else ""
