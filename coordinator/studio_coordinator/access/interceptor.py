"""The one place through which every RPC goes: authenticate, authorise, serve, prune, write down.

It wraps the method rather than the call's details, because only there the connection's certificate can be seen. Deny by default:
a method that the table does not know is not served to anybody.
"""

import asyncio
import inspect
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from studio.v1.access_service_pb2 import Operator
from studio_runtime.errors import DeniedError, StudioError, UnauthenticatedError, trailing_metadata

from studio_coordinator.access import scope
from studio_coordinator.access.authenticate import HINT, Authenticator
from studio_coordinator.access.caller import CALLER, Caller, Kind
from studio_coordinator.access.journal import OK, Draft, Journal
from studio_coordinator.access.ownership import deployments_of, require_own
from studio_coordinator.access.rules import Audience, Reach, Rule, rule_of, short_name
from studio_coordinator.store.witness import WITNESS

Context = grpc.aio.ServicerContext[Any, Any]
if TYPE_CHECKING:
    # Only the stub file knows that it is generic.
    Handler = grpc.RpcMethodHandler[Any, Any]
# What becomes of a call that its caller ended, or that was never tried, is no refusal.
UNTOLD = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED})
TOLD_OF_ALL = frozenset({grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED})
CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}
# How long an operator's stream goes on after the token was revoked or has run out.
ASKED_AGAIN_SECONDS = 10.0
AUDIENCES = {Audience.AGENTS: Kind.AGENT, Audience.GATEWAYS: Kind.GATEWAY}


class AccessInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every method of a server."""

    def __init__(self, authenticator: Authenticator, journal: Journal) -> None:
        self._authenticator = authenticator
        self._journal = journal

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], "Awaitable[Handler | None]"],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        """The method, behind the checks."""
        handler = await continuation(handler_call_details)
        rule = rule_of(handler_call_details.method)
        if handler is None or (rule is not None and rule.audience is Audience.OPEN):
            return handler
        guard = _Guard(self._authenticator, self._journal, short_name(handler_call_details.method), rule)
        return guard.wrapped(handler)


@dataclass
class _Guard:
    """The checks round one method."""

    authenticator: Authenticator
    journal: Journal
    method: str
    rule: Rule | None

    def wrapped(self, handler: Any) -> "Handler":
        """``handler`` with its behaviour behind the checks, whichever of the four kinds it is."""
        codecs = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.request_streaming and handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(self._streams(handler.stream_stream), **codecs)
        if handler.request_streaming:
            return grpc.stream_unary_rpc_method_handler(self._answers(handler.stream_unary), **codecs)
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(self._streams(handler.unary_stream), **codecs)
        return grpc.unary_unary_rpc_method_handler(self._answers(handler.unary_unary), **codecs)

    def _answers(self, behaviour: Callable[[Any, Context], Awaitable[Message]]) -> Callable[[Any, Context], Any]:
        async def served(request: Any, context: Context) -> Message:
            call = _Call(self, request, context)
            await call.admitted()
            try:
                response = await behaviour(request, context)
            except BaseException:
                await call.ended(_outcome(context))
                raise
            await call.ended(None)
            await call.is_theirs(response)
            return response

        return served

    def _streams(self, behaviour: Callable[[Any, Context], AsyncGenerator[Message]]) -> Callable[[Any, Context], Any]:
        if not inspect.isasyncgenfunction(behaviour):
            raise TypeError(f"{self.method} must be an asynchronous generator")

        async def served(request: Any, context: Context) -> AsyncIterator[Message]:
            call = _Call(self, request, context)
            await call.admitted()
            try:
                # Closed with this one, so that what a stream holds is given back at once.
                async with aclosing(behaviour(request, context)) as responses:
                    async for response in responses:
                        await call.still_admitted()
                        if await call.is_theirs(response):
                            yield response
            except BaseException:
                await call.ended(_outcome(context))
                raise
            await call.ended(None)

        return served


@dataclass
class _Call:
    """One call of the method."""

    guard: _Guard
    request: Any
    context: Context
    caller: Caller = field(default_factory=Caller)
    _draft: Draft | None = None
    _own: frozenset[str] = frozenset()
    _asked_at: float = 0.0

    async def admitted(self) -> None:
        """Return if the call may go on; else end it with a refusal, which is written down."""
        try:
            await self._admit()
        except StudioError as error:
            if error.code in TOLD_OF_ALL or (self._draft is not None and error.code not in UNTOLD):
                await self.guard.journal.close(self._draft or self._new_draft(), error.code.name)
            await self.context.abort(error.code, error.message, trailing_metadata(error))

    async def _admit(self) -> None:
        self.caller = Caller(peer=self.context.peer())
        self.caller = await self._authenticated()
        CALLER.set(self.caller)
        rule, method = self.guard.rule, self.guard.method
        if rule is None:
            raise DeniedError(f"{method} is in no rule of this coordinator, so nobody may call it")
        allow(rule, self.caller, method)
        if self.caller.tenant:
            await self._admit_tenant(rule)
        if rule.changes:
            self._draft = self._new_draft()
            WITNESS.set(self._draft)

    async def _authenticated(self) -> Caller:
        self._asked_at = time.monotonic()
        metadata = dict(self.context.invocation_metadata() or ())
        return await self.guard.authenticator.caller(metadata, self.context.auth_context(), self.context.peer())

    async def still_admitted(self) -> None:
        """Return if an operator's stream may go on; end it where the token is good no more. Nodes' streams are cut elsewhere."""
        rule = self.guard.rule
        if rule is None or rule.audience is not Audience.OPERATORS:
            return
        if time.monotonic() - self._asked_at < ASKED_AGAIN_SECONDS:
            return
        try:
            allow(rule, await self._authenticated(), self.guard.method)
        except StudioError as error:
            # A database that is away says nothing of the token.
            if error.code in TOLD_OF_ALL:
                await self.context.abort(error.code, error.message, trailing_metadata(error))

    async def _admit_tenant(self, rule: Rule) -> None:
        method, tenant = self.guard.method, self.caller.tenant
        if isinstance(self.request, Message):
            scope.take_for_tenant(method, self.request, tenant)
        if scope.asks_for_everything(method, self.request):
            raise DeniedError(f"the whole state is not the tenant {tenant}'s", "Name what you want: Deployment/NAME, …")
        async with self.guard.authenticator.database.transaction() as conn:
            if rule.reach is Reach.OWN:
                objects = scope.objects_of(method, self.request)
                given = [f"Tenant/{self.request.tenant}"] if method in scope.GIVES_TENANT else []
                await require_own(conn, self.caller, objects + given)
            if scope.needs_deployments(method):
                self._own = await deployments_of(conn, tenant)

    def _new_draft(self) -> Draft:
        request = self.request if isinstance(self.request, Message) else Empty()
        objects = scope.objects_of(self.guard.method, request)
        return Draft(self.caller, self.guard.method, objects, request)

    async def is_theirs(self, response: Message) -> bool:
        """Whether anything in ``response`` is the caller's to see; what is not is taken out."""
        tenant = self.caller.tenant
        if not tenant:
            return True
        if self.guard.method == "AdminService/WatchEvents":
            # Deployments come and go while a stream lasts.
            async with self.guard.authenticator.database.transaction() as conn:
                self._own = await deployments_of(conn, tenant)
        return scope.prune(self.guard.method, response, tenant, self._own.__contains__)

    async def ended(self, code: grpc.StatusCode | None) -> None:
        """Write down what became of it: None is well."""
        if self._draft is None or (code in UNTOLD and code is not grpc.StatusCode.CANCELLED):
            return
        # A caller that goes away does not take the entry with it.
        await asyncio.shield(self.guard.journal.close(self._draft, OK if code is None else code.name))


def allow(rule: Rule, caller: Caller, method: str) -> None:
    """Return if ``caller`` is of the audience, has the role, and reaches so far. Raises UnauthenticatedError or DeniedError."""
    if caller.kind is Kind.LOCAL:
        return
    if caller.kind is Kind.NOBODY:
        raise UnauthenticatedError(f"{method} needs to know who calls", HINT)
    if rule.audience is not Audience.OPERATORS:
        if caller.kind is not AUDIENCES[rule.audience]:
            raise DeniedError(f"{method} is for {rule.audience.name.lower()}, and {caller.name} is none of them")
        return
    if caller.kind is not Kind.OPERATOR:
        raise DeniedError(f"{method} is for operators; {caller.name} is known as {caller.kind.value} and gave no token")
    if caller.role < rule.role:
        needed = Operator.Role.Name(rule.role).removeprefix("ROLE_").lower()
        raise DeniedError(
            f"{method} needs the role {needed}; {caller.name} is {caller.role_word}",
            "An administrator gives roles with `studio operators create`.",
        )
    if caller.tenant and rule.reach is Reach.FLEET:
        raise DeniedError(
            f"{method} is about the whole fleet; {caller.name} is an operator of the tenant {caller.tenant}",
            "Ask an operator of the whole fleet.",
        )


def _outcome(context: Context) -> grpc.StatusCode:
    """The status that the method ended its call with; CANCELLED where it did not come to set one."""
    # Before the call has ended the library keeps a number here, whatever its types say.
    code: Any = context.code()
    found = CODES.get(code, grpc.StatusCode.UNKNOWN) if isinstance(code, int) else code
    return grpc.StatusCode.CANCELLED if found is grpc.StatusCode.OK else found or grpc.StatusCode.UNKNOWN
