"""Refusals in the shape and with the codes that OpenAI's clients know ★.

``{"error": {"message", "type", "param", "code"}}``, to which ``"type": "error"`` is added for Anthropic's clients: theirs is
the same object with that one field more. In a stream that has begun, the same JSON is one last event.
"""

import json
from collections.abc import Iterable

MAX_NAMES = 20
# Seconds after which a client may ask again.
STARTING_RETRY_SECONDS = 5
UNAVAILABLE_RETRY_SECONDS = 10
WAKING_RETRY_SECONDS = 10

FIRST_SERVER_ERROR = 500
INVALID = "invalid_request_error"
SERVER = "server_error"


class ApiError(Exception):
    """A request is refused or has failed; carries everything that the client is told."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        kind: str = INVALID,
        param: str | None = None,
        retry_after_seconds: int | None = None,
        finish: str = "refused",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.kind = kind
        self.param = param
        self.retry_after_seconds = retry_after_seconds
        # How the usage record names this end.
        self.finish = finish

    def body(self, *, anthropic: bool = False) -> bytes:
        """The JSON document."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return json.dumps({"type": "error", "error": error} if anthropic else {"error": error}).encode()

    def event(self, *, anthropic: bool = False) -> bytes:
        """The same as the last event of a stream."""
        name = b"event: error\n" if anthropic else b""
        return name + b"data: " + self.body(anthropic=anthropic) + b"\n\n"


def invalid_api_key(detail: str = "") -> ApiError:
    """401, the same for a key that is unknown and one whose secret is wrong."""
    message = detail or "Incorrect API key provided. Ask the operator for one, or make one with `studio keys create`."
    return ApiError(401, "invalid_api_key", message)


def missing_api_key() -> ApiError:
    """401 without any key."""
    return ApiError(
        401, "invalid_api_key", "No API key provided. Send it as 'Authorization: Bearer sk-…' or 'x-api-key'."
    )


def model_not_found(model: str, usable: Iterable[str]) -> ApiError:
    """404 with the names that this key may use."""
    names = sorted(usable)
    shown = ", ".join(names[:MAX_NAMES]) + (f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else "")
    hint = f"This key may use: {shown}." if names else "No model is served to this key at present."
    return ApiError(404, "model_not_found", f"The model {model[:200]!r} does not exist. {hint}", param="model")


def not_found(method: str, path: str) -> ApiError:
    """404 for a path that the gateway does not have."""
    return ApiError(404, "unknown_url", f"Unknown request URL: {method} {path[:200]}. The API is under /v1/.")


def method_not_allowed(method: str, path: str) -> ApiError:
    """405 for a path that is only read."""
    return ApiError(405, "method_not_allowed", f"{method} is not allowed on {path[:200]}; use GET.")


def missing_model() -> ApiError:
    """400 where nothing says which model is meant."""
    message = "You must provide a model: 'model' in the JSON body or form, or the header 'x-studio-model'."
    return ApiError(400, "missing_model", message, param="model")


def invalid_body(message: str, param: str | None = None) -> ApiError:
    """400 for a body that cannot be understood."""
    return ApiError(400, "invalid_body", message, param=param)


def body_too_large(limit_bytes: int) -> ApiError:
    """413."""
    return ApiError(413, "request_too_large", f"The request body is larger than {limit_bytes // 1024**2} MiB.")


def body_timeout(seconds: float) -> ApiError:
    """408 for a client that stopped sending."""
    return ApiError(
        408, "request_timeout", f"No part of the request body arrived for {seconds:.0f} s.", finish="timeout"
    )


def malformed_request(detail: str) -> ApiError:
    """400 for what is not HTTP, or could be read in two ways."""
    return ApiError(400, "malformed_request", f"The request cannot be read: {detail}.")


def head_too_large(limit_bytes: int) -> ApiError:
    """431."""
    return ApiError(431, "headers_too_large", f"The headers of the request are larger than {limit_bytes // 1024} KiB.")


def head_timeout(seconds: float) -> ApiError:
    """408 for a client that does not finish its headers."""
    return ApiError(408, "request_timeout", f"The headers took longer than {seconds:.0f} s.", finish="timeout")


def too_many_at_once(limit: int) -> ApiError:
    """429 for a key that has too many requests running."""
    message = f"This key has {limit} requests running at this gateway, which is its limit; wait for one to end."
    return ApiError(429, "rate_limit_exceeded", message, kind="requests", retry_after_seconds=1)


def too_many_waiting() -> ApiError:
    """429 where more requests wait for their limits than can be held."""
    message = "Too many requests wait at this gateway for their limits to be looked up."
    return ApiError(429, "rate_limit_exceeded", message, kind="requests", retry_after_seconds=1)


def over_limit(owner: str, bound: str, limit: int, unit: str, seconds: int) -> ApiError:
    """429 for a bound of a key or tenant that is used up; the code is the one that clients do not retry where it is a budget."""
    who = f"This key ({owner[4:]})" if owner.startswith("key:") else f"The tenant {owner.partition(':')[2]}"
    is_budget = "budget" in bound
    message = f"{who} has used its {bound}, which is {limit}{unit}; more is there in {seconds} s."
    code, kind = ("insufficient_quota", "insufficient_quota") if is_budget else ("rate_limit_exceeded", bound)
    return ApiError(429, code, message, kind=kind, retry_after_seconds=seconds)


def larger_than_limit(bound: str, limit: int, asked: int) -> ApiError:
    """400 for a length that even an untouched bound does not have: to wait is of no use."""
    unit = " millionths" if bound.startswith("money") else " tokens"
    message = f"The answer asked for may take {asked}{unit}, and the whole {bound} is {limit}; ask for a shorter one."
    return ApiError(400, "larger_than_limit", message, param="max_tokens")


def crowded(model: str) -> ApiError:
    """503 where too many requests wait for a model's engines already."""
    message = f"The model {model!r} has more requests waiting than it can hold; send this one again in a moment."
    return ApiError(503, "overloaded", message, kind=SERVER, param="model", retry_after_seconds=2, finish="unavailable")


def quota_unknown(seconds: int) -> ApiError:
    """503 while no coordinator can say what a key with limits may still use; keys without limits are not affected."""
    message = "No coordinator answers, so nobody can say what this key may still use."
    return ApiError(503, "quota_unknown", message, kind=SERVER, retry_after_seconds=seconds, finish="unavailable")


def not_ready() -> ApiError:
    """503 of a gateway that has never had its tables: nobody is told that a key is wrong."""
    message = "The gateway has not yet received its routes and keys from the coordinator."
    return ApiError(503, "gateway_not_ready", message, kind=SERVER, retry_after_seconds=2, finish="unavailable")


def model_unavailable(model: str, reason: str, *, starting: bool) -> ApiError:
    """503 for a model that is known and that nothing serves at present."""
    return ApiError(
        503,
        "model_starting" if starting else "model_unavailable",
        f"The model {model!r} cannot answer now: {reason or 'no replica is ready'}.".replace("..", "."),
        kind=SERVER,
        param="model",
        retry_after_seconds=STARTING_RETRY_SECONDS if starting else UNAVAILABLE_RETRY_SECONDS,
        finish="unavailable",
    )


def model_waking(model: str, reason: str) -> ApiError:
    """503 for a request that was held for a model, and cannot be any longer."""
    return ApiError(
        503,
        "model_waking",
        f"The model {model!r} is being woken, and {reason}.",
        kind=SERVER,
        param="model",
        retry_after_seconds=WAKING_RETRY_SECONDS,
        finish="not_woken",
    )


def upstream_error(detail: str) -> ApiError:
    """502: the engine could not be reached, or broke off. Says nothing about where it is."""
    return ApiError(502, "upstream_error", f"The model's engine {detail}.", kind=SERVER, finish="upstream_error")


def engine_error(status: int, body: bytes) -> ApiError:
    """What an engine answered instead of a stream, with its own words where they can be found."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    said = document.get("error", document) if isinstance(document, dict) else None
    fields = said if isinstance(said, dict) else {}
    message = str(fields.get("message") or f"The model's engine answered {status}.")
    kind = str(fields.get("type") or (SERVER if status >= FIRST_SERVER_ERROR else INVALID))
    return ApiError(status, str(fields.get("code") or status), message, kind=kind)


def upstream_timeout(seconds: float) -> ApiError:
    """504."""
    message = f"The model's engine sent nothing for {seconds:.0f} s."
    return ApiError(504, "upstream_timeout", message, kind=SERVER, finish="timeout")


def shutting_down() -> ApiError:
    """503 for what is still running when the time to finish is over."""
    message = "The gateway is being restarted; send the request again."
    return ApiError(503, "shutting_down", message, kind=SERVER, retry_after_seconds=1, finish="shutting_down")


def internal_error(request_id: str) -> ApiError:
    """500; the log has the rest under the request's id."""
    message = f"The gateway failed on this request; its log has the reason under {request_id}."
    return ApiError(500, "internal_error", message, kind=SERVER, finish="gateway_error")
