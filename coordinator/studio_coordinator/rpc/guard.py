"""What every call of an operator gets: a span below the caller's, and refusals that a person can read."""

import functools
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeVar

import grpc
import structlog
from studio_runtime.errors import StudioError, trailing_metadata
from studio_runtime.tracing import span, traceparent_of

from studio_coordinator.access.caller import current_caller

log = structlog.get_logger()

Servicer = TypeVar("Servicer")
Request = TypeVar("Request")
Response = TypeVar("Response")
Unary = Callable[[Servicer, Request, grpc.aio.ServicerContext[Any, Any]], Awaitable[Response]]


def metadata_of(context: grpc.aio.ServicerContext[Any, Any]) -> dict[str, str | bytes]:
    """The call's metadata, by lower-case key."""
    return dict(context.invocation_metadata() or ())


def actor_of(_context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """Who calls: proved by a token or a certificate; on a loopback listener that asks for none what they call themselves."""
    return current_caller().name


async def refuse(context: grpc.aio.ServicerContext[Any, Any], error: StudioError) -> NoReturn:
    """End the call with ``error``: its code, its text, and its details as trailers."""
    await context.abort(error.code, error.message, trailing_metadata(error))


def guarded(method: Unary[Servicer, Request, Response]) -> Unary[Servicer, Request, Response]:
    """Decorate a unary method of a servicer."""
    name = method.__name__

    @functools.wraps(method)
    async def call(self: Servicer, request: Request, context: grpc.aio.ServicerContext[Any, Any]) -> Response:
        with span(f"coordinator.{name}", traceparent_of(metadata_of(context)), actor=actor_of(context)):
            try:
                return await method(self, request, context)
            except StudioError as error:
                log.info(
                    "call_refused", method=name, reason=error.reason, message=error.message, actor=actor_of(context)
                )
                await refuse(context, error)
            except Exception:
                log.exception("call_failed", method=name)
                await refuse(
                    context, StudioError(f"{name} failed inside the coordinator", "See the coordinator's log.")
                )

    return call
