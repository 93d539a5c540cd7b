"""Models of other providers, through LiteLLM as a library; the only file that knows it.

LiteLLM takes 2 s and 140 MiB to import, so it is imported in a thread when the first provider's model appears, or is asked for.
It is given named parameters only: a client chooses neither addresses nor keys nor callbacks. Why the library and not its proxy:
``docs/decisions/0002-litellm-as-a-library.md``.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from types import ModuleType
from typing import Any

import structlog
from studio.v1.route_pb2 import ProviderRoute
from studio_runtime.logging import redacted

from studio_gateway.account import Account
from studio_gateway.call import Call
from studio_gateway.exchange import EVENTS, Exchange
from studio_gateway.limits import Limits
from studio_gateway.openai_errors import (
    SERVER,
    ApiError,
    internal_error,
    upstream_error,
    upstream_timeout,
)
from studio_gateway.provider_call import OPERATIONS, Operation, arguments_of
from studio_gateway.sse import EventStream
from studio_gateway.table import Model
from studio_gateway.work import Done, TaskWork, Work

log = structlog.get_logger()

# Before the import: no price list from the network, no .env file of whatever folder this is.
ENVIRONMENT = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION"}
# A provider that refuses the operator's key is not refusing the client's.
PROVIDER_REFUSES_KEY = (401, 403)
NOT_IMPLEMENTED = 501
FIRST_ERROR_STATUS = 400
FIRST_SERVER_ERROR = 500
LAST_ERROR_STATUS = 599
BAD_GATEWAY = 502


class LiteLlmLane:
    """Answers from other providers. ``run`` has to run beside it: it imports LiteLLM when ``want`` was called."""

    def __init__(self, limits: Limits, *, enabled: bool, stored_key: Callable[[str], str] = lambda _name: "") -> None:
        """``stored_key`` has the value of a stored secret, "" while it is not known."""
        self._limits = limits
        self._stored_key = stored_key
        self._enabled = enabled
        self._wanted = asyncio.Event()
        self._loaded: asyncio.Future[ModuleType | None] = asyncio.get_running_loop().create_future()

    def want(self) -> None:
        """Have LiteLLM imported, soon."""
        self._wanted.set()

    async def run(self) -> None:
        """Import LiteLLM once it is wanted."""
        if not self._enabled:
            self._loaded.set_result(None)
            return
        await self._wanted.wait()
        try:
            litellm = await asyncio.to_thread(_import_litellm)
        except ImportError as error:
            log.warning("litellm_missing", error=str(error))
            self._loaded.set_result(None)
        else:
            log.info("litellm_loaded")
            self._loaded.set_result(litellm)

    def forward(self, exchange: Exchange, call: Call, model: Model, account: Account, done: Done) -> Work:
        """Answer ``exchange`` from the provider of ``model``; ``done`` is called once, at the end, unless it is stopped."""
        return TaskWork(lambda may_send: self._serve(exchange, call, model, account, may_send), exchange.id, done)

    async def _serve(
        self, exchange: Exchange, call: Call, model: Model, account: Account, may_send: asyncio.Event
    ) -> None:
        """Raises ApiError."""
        provider = model.provider
        operation = OPERATIONS.get(exchange.path)
        if provider is None or operation is None or exchange.method != "POST":
            raise ApiError(
                NOT_IMPLEMENTED,
                "unsupported_by_provider",
                f"{exchange.method} {exchange.path[:200]} is not offered for the model {model.name!r} of another provider;"
                f" offered: {', '.join(OPERATIONS)}.",
            )
        account.provider = provider.provider_model.partition("/")[0]
        arguments = arguments_of(operation, call, provider, self._key_of(provider), self._limits.first_byte_seconds)
        self.want()
        litellm = await asyncio.shield(self._loaded)
        if litellm is None:
            raise _lane_missing() if self._enabled else _lane_off()
        try:
            async with asyncio.timeout(self._limits.first_byte_seconds):
                result = await getattr(litellm, operation.function)(**arguments)
            if hasattr(result, "__aiter__"):
                await self._relay_stream(exchange, call, operation, result, account, may_send)
            else:
                _relay_whole(exchange, result, account)
        except TimeoutError as error:
            raise upstream_timeout(self._limits.first_byte_seconds) from error
        except ApiError:
            raise
        except Exception as error:
            # The classes of LiteLLM and of the SDKs below it have only their status in common.
            raise _translated(error, arguments, exchange) from error

    def _key_of(self, provider: ProviderRoute) -> str:
        """The operator's key for ``provider``, empty where it needs none. Raises ApiError."""
        if provider.api_key_secret:
            key = self._stored_key(provider.api_key_secret)
            where = f"does not know the secret {provider.api_key_secret} yet"
            hint = "The operator stores it: studio secrets put."
        elif provider.api_key_env:
            key = os.environ.get(provider.api_key_env, "")
            where = f"has no {provider.api_key_env} in its environment"
            hint = "The operator sets it and restarts the gateway."
        else:
            return ""
        if not key:
            message = f"The gateway {where}, which holds the key for {provider.model!r}. {hint}"
            raise ApiError(503, "provider_key_missing", message, kind=SERVER, finish="unavailable")
        return key

    async def _relay_stream(
        self,
        exchange: Exchange,
        call: Call,
        operation: Operation,
        chunks: Any,
        account: Account,
        may_send: asyncio.Event,
    ) -> None:
        stream = EventStream(strip_usage=call.adds_usage)
        account.usage, account.stream, account.finish = stream.usage, True, "complete"
        account.status = 200
        iterator = aiter(chunks)
        try:
            while (event := await self._next_event(iterator)) is not None:
                if not exchange.is_started:
                    exchange.begin(200, (EVENTS, (b"cache-control", b"no-cache")), events=True)
                if passed := stream.feed(event):
                    if account.first_token is None:
                        account.first_byte_of_stream()
                    exchange.send(passed)
                async with asyncio.timeout(self._limits.idle_seconds):
                    await may_send.wait()
        finally:
            account.finish = stream.finish or account.finish
            # Closing the iterator is what closes the connection to the provider.
            if closing := getattr(chunks, "aclose", None):
                await closing()
        if not exchange.is_started:
            raise upstream_error("sent an empty stream")
        exchange.end(stream.finished() + (b"" if operation.named_events else b"data: [DONE]\n\n"))

    async def _next_event(self, iterator: AsyncIterator[Any]) -> bytes | None:
        try:
            async with asyncio.timeout(self._limits.idle_seconds):
                return _event_of(await anext(iterator))
        except StopAsyncIteration:
            return None


def _relay_whole(exchange: Exchange, result: Any, account: Account) -> None:
    body = _json_of(result).encode()
    account.status, account.finish = 200, account.usage.take_answer(body) or "complete"
    exchange.answer(200, body)


def _import_litellm() -> ModuleType:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import litellm  # noqa: PLC0415 - 2 s and 140 MiB that most gateways never need

    litellm.telemetry = False
    litellm.suppress_debug_info = True
    litellm.turn_off_message_logging = True
    # Prices and limits of its own would only contradict the coordinator's.
    litellm.num_retries = 0
    module: ModuleType = litellm
    return module


def _json_of(value: Any) -> str:
    if hasattr(value, "model_dump_json"):
        text: str = value.model_dump_json(exclude_unset=True)
        return text
    return json.dumps(value)


def _event_of(chunk: Any) -> bytes:
    """One event of the client's stream; LiteLLM gives objects, dicts, or events that are bytes already."""
    if isinstance(chunk, bytes):
        return chunk
    kind = chunk.get("type") if isinstance(chunk, dict) else getattr(chunk, "type", None)
    name = f"event: {getattr(kind, 'value', kind)}\n" if kind else ""
    return f"{name}data: {_json_of(chunk)}\n\n".encode()


def _translated(error: Exception, arguments: dict[str, Any], exchange: Exchange) -> ApiError:
    """The client's form of what LiteLLM raised: the provider's status and words, without the operator's key."""
    status = getattr(error, "status_code", None)
    if not isinstance(status, int) or not FIRST_ERROR_STATUS <= status <= LAST_ERROR_STATUS:
        log.error("provider_lane_failed", request=exchange.id, exc_info=error)
        return internal_error(exchange.id)
    text = str(getattr(error, "message", error))
    for own in (arguments.get("api_key"), arguments.get("api_base")):
        text = text.replace(own, "…") if own else text
    log.warning("provider_refused", request=exchange.id, status=status, kind=type(error).__name__, reason=text[:1000])
    if status in PROVIDER_REFUSES_KEY:
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


def _lane_off() -> ApiError:
    return ApiError(
        NOT_IMPLEMENTED, "provider_lane_off", "This gateway was started without models of other providers.", kind=SERVER
    )


def _lane_missing() -> ApiError:
    return ApiError(
        NOT_IMPLEMENTED,
        "litellm_missing",
        "Models of other providers need LiteLLM: install 'vllm-studio[litellm]' where the gateway runs and restart it.",
        kind=SERVER,
    )
