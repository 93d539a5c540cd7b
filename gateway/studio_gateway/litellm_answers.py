"""What LiteLLM gives back, in the form that clients read: objects as JSON and events, exceptions as errors."""

import json
from collections.abc import Iterable
from typing import Any

import structlog
from studio_runtime.logging import redacted

from studio_gateway.exchange import Exchange
from studio_gateway.litellm_redirects import was_redirected
from studio_gateway.openai_errors import SERVER, ApiError, internal_error
from studio_gateway.provider_call import OPERATIONS
from studio_gateway.table import Model

log = structlog.get_logger()

# A provider that refuses the operator's key is not refusing the client's.
PROVIDER_REFUSES_KEY = (401, 403)
FIRST_ERROR_STATUS = 400
FIRST_SERVER_ERROR = 500
LAST_ERROR_STATUS = 599
BAD_GATEWAY = 502
NOT_IMPLEMENTED = 501
# How the HTTP clients below LiteLLM call it that nobody listens; LiteLLM itself calls it an internal error.
NOBODY_LISTENS = frozenset(("ConnectError", "ConnectTimeout", "ClientConnectorError"))


def json_of(value: Any) -> str:
    """An object of LiteLLM's as JSON."""
    if hasattr(value, "model_dump_json"):
        text: str = value.model_dump_json(exclude_unset=True)
        return text
    return json.dumps(value)


def event_of(chunk: Any) -> bytes:
    """One event of the client's stream; LiteLLM gives objects, dicts, or events that are bytes already."""
    if isinstance(chunk, bytes):
        return chunk
    kind = chunk.get("type") if isinstance(chunk, dict) else getattr(chunk, "type", None)
    name = f"event: {getattr(kind, 'value', kind)}\n" if kind else ""
    return f"{name}data: {json_of(chunk)}\n\n".encode()


def translated(error: Exception, hidden: Iterable[str | None], exchange: Exchange, *, has_key: bool = True) -> ApiError:
    """The client's form of what LiteLLM raised: the provider's status and words, without ``hidden``: keys, addresses.

    ``has_key``: the gateway sent a key of its own, which is what a 401 is about.
    """
    if was_redirected(error):
        log.warning("provider_redirects", request=exchange.id)
        return ApiError(
            BAD_GATEWAY,
            "provider_redirects",
            "The provider answered with a redirect, which is not followed; the operator has to give its new address.",
            kind=SERVER,
            finish="upstream_error",
        )
    status = getattr(error, "status_code", None)
    if not isinstance(status, int) or not FIRST_ERROR_STATUS <= status <= LAST_ERROR_STATUS:
        log.error("provider_lane_failed", request=exchange.id, exc_info=error)
        return internal_error(exchange.id)
    text = str(getattr(error, "message", error))
    for own in hidden:
        text = text.replace(own, "…") if own else text
    log.warning("provider_refused", request=exchange.id, status=status, kind=type(error).__name__, reason=text[:1000])
    if has_key and status in PROVIDER_REFUSES_KEY:
        return ApiError(
            BAD_GATEWAY,
            "provider_refused_key",
            "The provider refuses the gateway's own key; the operator has to see to it.",
            kind=SERVER,
            finish="upstream_error",
        )
    if status >= FIRST_SERVER_ERROR:
        # What LiteLLM says of these is about itself as often as about the provider.
        message = f"The provider of this model failed with status {status}."
        return ApiError(status, "provider_error", message, kind=SERVER, finish="upstream_error")
    code = getattr(error, "code", None)
    return ApiError(
        status,
        code if isinstance(code, str) else "provider_error",
        redacted(text)[:1000],
        finish="upstream_error",
    )


def reached_nobody(error: BaseException) -> bool:
    """Whether no connection was made, so that nothing can have begun."""
    cause: BaseException | None = error
    while cause is not None:
        if type(cause).__name__ in NOBODY_LISTENS:
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def not_offered(exchange: Exchange, model: Model) -> ApiError:
    """The path is none that LiteLLM is used for."""
    whose = "of another provider" if model.provider is not None else "that is reached through LiteLLM"
    return ApiError(
        NOT_IMPLEMENTED,
        "unsupported_by_provider",
        f"{exchange.method} {exchange.path[:200]} is not offered for the model {model.name!r} {whose};"
        f" offered: {', '.join(OPERATIONS)}.",
    )
