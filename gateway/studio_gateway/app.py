"""The ASGI application: which answer a path gets, and the one exit that every request leaves by.

==================== ======= =============================================================
path                 key     answer
==================== ======= =============================================================
``/health``          no      200 while the process serves
``/ready``           no      200 with both tables in force, else 503
``/v1/models[/ID]``  yes     from the route table
``/v1/…``            yes     from an engine of the fleet, or through LiteLLM
anything else        no      404
==================== ======= =============================================================
"""

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import Protocol
from urllib.parse import unquote

import structlog
from studio.v1.route_pb2 import UsageRecord
from studio_runtime.tracing import span

from studio_gateway import models
from studio_gateway import openai_errors as errors
from studio_gateway.account import Account, Metrics
from studio_gateway.call import Call, read_call
from studio_gateway.exchange import ClientGoneError, Exchange, Message, Receive, Send
from studio_gateway.forward import Forwarder
from studio_gateway.headers import first
from studio_gateway.in_force import InForce
from studio_gateway.keys import Key, presented_key
from studio_gateway.limits import Limits
from studio_gateway.table import Model, Routes, usable_names

log = structlog.get_logger()

API = "/v1/"
# Engines change themselves through these; the coordinator alone does that.
ENGINE_ADMINISTRATION = frozenset(("/v1/load_lora_adapter", "/v1/unload_lora_adapter"))
CLIENT_GONE_STATUS = 499
# For writing the last words to a client that may not be reading.
LAST_WORDS_SECONDS = 1.0


class ProviderLane(Protocol):
    """Models of other providers."""

    async def serve(self, exchange: Exchange, call: Call, model: Model, account: Account) -> None:
        """Answer ``exchange`` from the provider of ``model``. Raises ApiError."""


class Gateway:
    """The application. ``record`` takes the usage record of every request that a key is accountable for."""

    def __init__(
        self,
        in_force: InForce,
        forwarder: Forwarder,
        providers: ProviderLane,
        record: Callable[[UsageRecord], None],
        metrics: Metrics,
        limits: Limits,
    ) -> None:
        self._in_force = in_force
        self._forwarder = forwarder
        self._providers = providers
        self._record = record
        self._metrics = metrics
        self._limits = limits
        self._running: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        exchange = Exchange(scope, receive, send, f"req-{uuid.uuid4().hex}")
        if exchange.path in ("/health", "/ready"):
            await self._answer_probe(exchange)
            return
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("the server runs every request as a task")
        self._running.add(task)
        self._metrics.in_flight.inc()
        account = Account(exchange.id, exchange.path)
        try:
            await self._serve_to_its_end(exchange, account)
        finally:
            self._running.discard(task)
            self._metrics.in_flight.dec()
            record = account.close(self._metrics)
            if record is not None:
                self._record(record)

    async def drain(self) -> None:
        """Let what is running finish within the limit, then end the rest; nothing new may arrive any more."""
        if self._running:
            await asyncio.wait(self._running, timeout=self._limits.drain_seconds)
        late = set(self._running)
        for task in late:
            task.cancel()
        if late:
            log.warning("requests_ended_by_drain", count=len(late))
            await asyncio.wait(late, timeout=2 * LAST_WORDS_SECONDS)

    async def _serve_to_its_end(self, exchange: Exchange, account: Account) -> None:
        """Serve, and turn whatever goes wrong into one end of the exchange and of the account."""
        try:
            await self._serve(exchange, account)
            account.status = account.status or exchange.status
        except ClientGoneError:
            account.status, account.finish = CLIENT_GONE_STATUS, "client_gone"
        except errors.ApiError as error:
            await self._end_with(error, exchange, account)
        except asyncio.CancelledError:
            # Only ``drain`` cancels a request, and it waits for these last words; the server needs a normal return.
            await self._end_with(errors.shutting_down(), exchange, account)
        except Exception:
            log.exception("request_failed", request=exchange.id, path=exchange.path)
            await self._end_with(errors.internal_error(exchange.id), exchange, account)

    async def _end_with(self, error: errors.ApiError, exchange: Exchange, account: Account) -> None:
        account.finish = error.finish
        account.status = exchange.status if exchange.is_started else error.status
        try:
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                await exchange.fail(error)
        except TimeoutError:
            log.info("client_does_not_read", request=exchange.id)

    async def _answer_probe(self, exchange: Exchange) -> None:
        if exchange.path == "/health":
            await exchange.answer_json({"status": "ok"})
            return
        routes, keys = self._in_force.routes, self._in_force.keys
        versions = {"routes": routes.version if routes else None, "keys": keys.version if keys else None}
        is_ready = routes is not None and keys is not None
        await exchange.answer_json({"ready": is_ready} | versions, 200 if is_ready else 503)

    async def _serve(self, exchange: Exchange, account: Account) -> None:
        if not _is_api_path(exchange):
            raise errors.not_found(exchange.method, exchange.path)
        routes = self._in_force.routes
        key = self._key_of(exchange)
        if routes is None:
            raise errors.not_ready()
        account.key_id, account.tenant = key.id, key.tenant
        if exchange.path == "/v1/models" or exchange.path.startswith("/v1/models/"):
            await self._answer_models(exchange, account, routes, key)
            return
        body = await exchange.read_body(self._limits.body_bytes, self._limits.body_idle_seconds)
        call = read_call(exchange.path, first(exchange.headers, b"content-type"), body)
        name = call.model or unquote(first(exchange.headers, b"x-studio-model"))
        if not name:
            raise errors.missing_model()
        account.asked_model, account.stream = name, call.stream
        model = models.find(routes, key, name)
        if model is None:
            raise errors.model_not_found(name, usable_names(routes, key.models))
        account.model = model.name
        await self._serve_model(exchange, call, model, account)

    async def _serve_model(self, exchange: Exchange, call: Call, model: Model, account: Account) -> None:
        if model.provider is None and not model.targets:
            raise errors.model_unavailable(model.name, model.unavailable_reason, starting=model.is_starting)
        lane = self._forwarder if model.provider is None else self._providers
        traceparent = first(exchange.headers, b"traceparent")
        with span("gateway.request", traceparent, model=model.name, request_id=exchange.id) as current:
            async with exchange.while_client_waits():
                await lane.serve(exchange, call, model, account)
            current.set_attribute("status", account.status)

    def _key_of(self, exchange: Exchange) -> Key:
        ring = self._in_force.keys
        if ring is None:
            raise errors.not_ready()
        presented = presented_key(exchange.headers)
        if not presented:
            raise errors.missing_api_key()
        key = ring.find(presented)
        if key is None:
            raise errors.invalid_api_key()
        if refusal := key.refusal(time.time()):
            raise errors.invalid_api_key(refusal)
        return key

    async def _answer_models(self, exchange: Exchange, account: Account, routes: Routes, key: Key) -> None:
        if exchange.method not in ("GET", "HEAD"):
            raise errors.method_not_allowed(exchange.method, exchange.path)
        name = exchange.path.removeprefix("/v1/models").removeprefix("/")
        account.finish = "complete"
        if not name:
            await exchange.answer_json(models.listing(routes, key))
            return
        model = models.find(routes, key, name)
        if model is None:
            raise errors.model_not_found(name, usable_names(routes, key.models))
        await exchange.answer_json(models.document(name, model))


def _is_api_path(exchange: Exchange) -> bool:
    """Whether the path is one under /v1/ that reads the same however often it is decoded or normalised."""
    path = exchange.path
    if not path.startswith(API) or not exchange.raw_path.startswith(API) or path in ENGINE_ADMINISTRATION:
        return False
    return "\\" not in path and not {"", ".", ".."}.intersection(path.removeprefix(API).split("/"))
