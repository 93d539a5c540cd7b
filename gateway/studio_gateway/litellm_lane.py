"""Answers through LiteLLM as a library: from other providers, and from engines of the fleet whose models ask for it.

LiteLLM is imported in a thread when the first such model appears; requests of such models wait for it, tables do not: a table is
acknowledged at once, and the router is made of the one in force when LiteLLM is there. From then on the router is changed in the
call that puts a table in force, so before it is acknowledged. Which endpoint a request goes to is picked as on the direct way,
from the table: one that was withdrawn gets nothing new whatever the router holds, and what runs on it goes on. The router holds
the table before as well, for the requests that were picked from that one and that a callback keeps waiting.

LiteLLM is given named parameters only: a client chooses neither addresses nor keys nor callbacks. Why the library and not its
proxy: ``docs/decisions/0002-litellm-as-a-library.md``.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import structlog
from studio.v1.route_pb2 import ProviderRoute

from studio_gateway.account import Account
from studio_gateway.call import Call
from studio_gateway.exchange import EVENTS, Exchange
from studio_gateway.forward import wish_of
from studio_gateway.in_force import InForce
from studio_gateway.limits import Limits
from studio_gateway.litellm_answers import event_of, json_of, not_offered, reached_nobody, translated
from studio_gateway.litellm_deployments import Held, deployments_of, through_litellm
from studio_gateway.litellm_import import LiteLlmConfigError, import_litellm
from studio_gateway.litellm_names import led_inside, outside_only
from studio_gateway.litellm_router import PICKED, FleetInRouter
from studio_gateway.openai_errors import SERVER, ApiError, upstream_error, upstream_timeout
from studio_gateway.provider_address import ProviderAddresses, host_to_judge, refused_inside
from studio_gateway.provider_call import OPERATIONS, Operation, arguments_of, engine_arguments_of
from studio_gateway.retry_budget import RetryBudget
from studio_gateway.sse import EventStream
from studio_gateway.table import Model, Routes, Target
from studio_gateway.work import Done, TaskWork, Work

log = structlog.get_logger()

NOT_IMPLEMENTED = 501
FIRST_SERVER_ERROR = 500
ATTEMPTS = 2


@dataclass(frozen=True)
class Library:
    """LiteLLM, imported."""

    functions: ModuleType
    fleet: FleetInRouter


@dataclass(frozen=True)
class Question:
    """One request on its way through LiteLLM."""

    exchange: Exchange
    call: Call
    model: Model
    operation: Operation
    account: Account
    traceparent: str
    may_send: asyncio.Event
    # The endpoint, where somebody else has picked it.
    replica_id: str


class NobodyListensError(Exception):
    """Nothing has begun at the endpoint that was picked: whoever has picked it may pick another."""


class LiteLlmLane:
    """Answers through LiteLLM. ``run`` has to run beside it: it imports LiteLLM when a table, or a request, needs it."""

    def __init__(
        self,
        in_force: InForce,
        limits: Limits,
        *,
        enabled: bool,
        stored_key: Callable[[str], str] = lambda _name: "",
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """``stored_key`` has the value of a stored secret, "" while it is not known; ``settings`` are LiteLLM's own."""
        self._in_force = in_force
        self._limits = limits
        self._stored_key = stored_key
        self._enabled = enabled
        self._settings = settings or {}
        self._budget = RetryBudget()
        self._addresses = ProviderAddresses()
        # The deployments of the table in force, and of the one before.
        self._held: dict[str, Held] = {}
        self._held_before: dict[str, Held] = {}
        self._wanted = asyncio.Event()
        self._loaded: asyncio.Future[Library | None] = asyncio.get_running_loop().create_future()

    def look(self, routes: Routes) -> None:
        """A table has come into force: keep the router in step, and have LiteLLM imported where it is needed."""
        models = through_litellm(routes)
        if models or any(model.provider is not None for model in routes.by_name.values()):
            self._wanted.set()
        self._held_before, self._held = self._held, deployments_of(models)
        if self._loaded.done() and (library := self._loaded.result()) is not None:
            library.fleet.put(self._held_before | self._held)

    async def run(self) -> None:
        """Import LiteLLM once it is wanted."""
        if not self._enabled:
            self._loaded.set_result(None)
            return
        await self._wanted.wait()
        try:
            litellm = await asyncio.to_thread(import_litellm, self._settings)
        except (ImportError, LiteLlmConfigError) as error:
            log.warning("litellm_missing", error=str(error))
            self._loaded.set_result(None)
            return
        fleet = FleetInRouter.alone(litellm, self._limits.first_byte_seconds)
        fleet.put(self._held_before | self._held)
        log.info("litellm_loaded")
        self._loaded.set_result(Library(litellm, fleet))

    def forward(
        self,
        exchange: Exchange,
        call: Call,
        model: Model,
        account: Account,
        traceparent: str,
        done: Done,
        *,
        has_others: bool,
    ) -> Work:
        """Answer ``exchange`` for ``model``; ``done`` is called once, at the end, unless it is stopped."""
        # What a refusal of LiteLLM's means is told by its class: it never begins an answer.
        del has_others
        return TaskWork(
            lambda may_send: self.serve(exchange, call, model, account, traceparent, may_send), exchange.id, done
        )

    async def serve(
        self,
        exchange: Exchange,
        call: Call,
        model: Model,
        account: Account,
        traceparent: str,
        may_send: asyncio.Event,
        *,
        replica_id: str = "",
    ) -> None:
        """The same as a coroutine; from the endpoint ``replica_id`` where it is picked already. Raises ApiError."""
        operation = OPERATIONS.get(exchange.path)
        if operation is None or exchange.method != "POST":
            raise not_offered(exchange, model)
        question = Question(exchange, call, model, operation, account, traceparent, may_send, replica_id)
        if model.provider is None:
            await self._ask_engines(question)
        else:
            await self._ask_provider(question, model.provider)

    async def _library(self) -> Library:
        """LiteLLM, once it is there. Raises ApiError."""
        self._wanted.set()
        library = await asyncio.shield(self._loaded)
        if library is None:
            raise _lane_missing() if self._enabled else _lane_off()
        return library

    async def _ask_provider(self, question: Question, provider: ProviderRoute) -> None:
        """Raises ApiError."""
        operation = question.operation
        question.account.provider = provider.provider_model.partition("/")[0]
        arguments = arguments_of(
            operation, question.call, provider, self._key_of(provider), self._limits.first_byte_seconds
        )
        await self._addresses.require_outside(provider)
        library = await self._library()
        try:
            with outside_only(host_to_judge(provider)):
                await self._answer(question, getattr(library.functions, operation.function), arguments)
        except ApiError:
            raise
        except Exception as error:
            if led_inside(error):
                raise refused_inside(provider) from error
            # The classes of LiteLLM and of the SDKs below it have only their status in common.
            hidden = (arguments.get("api_key"), arguments.get("api_base"))
            raise translated(error, hidden, question.exchange) from error

    async def _ask_engines(self, question: Question) -> None:
        """One endpoint, and another where nobody listens at the first. Raises ApiError."""
        library = await self._library()
        self._budget.earn()
        tried: list[str] = []
        while True:
            # The table may have changed while LiteLLM was imported, or the first endpoint tried.
            routes = self._in_force.routes
            model = question.model if routes is None else routes.by_name.get(question.model.name, question.model)
            target = self._picked(question) if question.replica_id else self._pick(question, model, tried)
            try:
                await self._ask_engine(library, question, target)
            except ApiError:
                raise
            except Exception as error:
                is_unheard = reached_nobody(error)
                if is_unheard and question.replica_id:
                    raise NobodyListensError from error
                self._note_failure(target, error, is_unheard=is_unheard)
                if is_unheard and len(tried) < ATTEMPTS and self._budget.spend():
                    self._in_force.metrics.retries.inc()
                    continue
                raise translated(error, (target.base_url,), question.exchange, has_key=False) from error
            else:
                self._in_force.standings.answered(target.replica_id)
                return

    def _picked(self, question: Question) -> Held:
        for held in (*self._held.values(), *self._held_before.values()):
            if (held.name, held.replica_id) == (question.model.name, question.replica_id):
                return held
        raise upstream_error("has been withdrawn")

    def _pick(self, question: Question, model: Model, tried: list[str]) -> Target:
        if not model.targets:
            raise upstream_error("has been withdrawn")
        wish = wish_of(question.exchange, question.call, model)
        now = asyncio.get_running_loop().time()
        target = self._in_force.picker.pick(model.targets, tried, now, wish, model.name)
        tried.append(target.replica_id)
        return target

    async def _ask_engine(self, library: Library, question: Question, target: Target | Held) -> None:
        operation, exchange, account = question.operation, question.exchange, question.account
        account.replica_id, account.recipe_revision = target.replica_id, target.recipe_revision
        about = {PICKED: target.replica_id, "studio_tenant": account.tenant, "studio_key_id": account.key_id}
        headers = {"x-request-id": exchange.request_id, "traceparent": question.traceparent}
        arguments = engine_arguments_of(
            operation, question.call, question.model.name, about, headers, self._limits.first_byte_seconds
        )
        method = getattr(library.fleet.router, operation.router_method or operation.function)
        work = wish_of(exchange, question.call, question.model).work
        standing = self._in_force.standings.of(target.replica_id)
        standing.began(work)
        try:
            await self._answer(question, method, arguments)
        finally:
            standing.ended(work)

    def _note_failure(self, target: Target | Held, error: Exception, *, is_unheard: bool) -> None:
        """What the direct way would hold against the endpoint."""
        standings, now = self._in_force.standings, asyncio.get_running_loop().time()
        status = getattr(error, "status_code", None)
        if is_unheard:
            seconds = standings.connect_failed(target.replica_id, now)
        elif not isinstance(status, int) or status >= FIRST_SERVER_ERROR:
            seconds = standings.answer_failed(target.replica_id, now)
        else:
            return
        if seconds:
            self._in_force.metrics.ejections.inc()
            log.warning("endpoint_ejected", replica=target.replica_id, seconds=seconds, error=str(error)[:200])

    async def _answer(self, question: Question, function: Callable[..., Any], arguments: dict[str, Any]) -> None:
        """Call ``function`` and pass its answer on. Raises ApiError, and whatever LiteLLM raises."""
        try:
            question.account.is_asked = True
            async with asyncio.timeout(self._limits.first_byte_seconds):
                result = await function(**arguments)
            if hasattr(result, "__aiter__"):
                await self._relay_stream(question, result)
            else:
                _relay_whole(question.exchange, result, question.account)
        except TimeoutError as error:
            raise upstream_timeout(self._limits.first_byte_seconds) from error

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

    async def _relay_stream(self, question: Question, chunks: Any) -> None:
        exchange, account = question.exchange, question.account
        stream = EventStream(strip_usage=question.call.adds_usage)
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
                    await question.may_send.wait()
        finally:
            account.finish = stream.finish or account.finish
            # Closing the iterator is what closes the connection to the provider.
            if closing := getattr(chunks, "aclose", None):
                await closing()
        if not exchange.is_started:
            raise upstream_error("sent an empty stream")
        exchange.end(stream.finished() + (b"" if question.operation.named_events else b"data: [DONE]\n\n"))

    async def _next_event(self, iterator: AsyncIterator[Any]) -> bytes | None:
        try:
            async with asyncio.timeout(self._limits.idle_seconds):
                return event_of(await anext(iterator))
        except StopAsyncIteration:
            return None


def _relay_whole(exchange: Exchange, result: Any, account: Account) -> None:
    body = json_of(result).encode()
    account.status, account.finish = 200, account.usage.take_answer(body) or "complete"
    exchange.answer(200, body)


def _lane_off() -> ApiError:
    return ApiError(
        NOT_IMPLEMENTED,
        "provider_lane_off",
        "This gateway was started without LiteLLM, through which this model is reached.",
        kind=SERVER,
    )


def _lane_missing() -> ApiError:
    return ApiError(
        NOT_IMPLEMENTED,
        "litellm_missing",
        "This model needs LiteLLM: install 'vllm-studio[litellm]' where the gateway runs and restart it; its log says more.",
        kind=SERVER,
    )
