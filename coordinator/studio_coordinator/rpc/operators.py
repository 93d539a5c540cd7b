"""AccessService: who calls, and who may administer."""

import hashlib
import hmac
from datetime import UTC, datetime
from typing import Any

import grpc
from studio.v1.access_service_pb2 import (
    CreateOperatorRequest,
    CreateOperatorResponse,
    GetCallerRequest,
    GetCallerResponse,
    ListOperatorsRequest,
    ListOperatorsResponse,
    Operator,
    RevokeOperatorRequest,
    RevokeOperatorResponse,
)
from studio_runtime.errors import DeniedError, InvalidError, SafetyError

from studio_coordinator.access.caller import current_caller
from studio_coordinator.manifest.names import NAME, NAME_RULE
from studio_coordinator.rpc.guard import guarded
from studio_coordinator.rpc.state import AdminState
from studio_coordinator.store import idempotency, operators, tenants
from studio_coordinator.store.database import Connection
from studio_coordinator.tokens import OPERATOR, Token

Context = grpc.aio.ServicerContext[Any, Any]

SHORTEST_IDEMPOTENCY_KEY = 16


class Operators(AdminState):
    """People and programs with a token of their own."""

    @guarded
    async def GetCaller(self, _request: GetCallerRequest, _context: Context) -> GetCallerResponse:  # noqa: N802
        """Who the caller is to this coordinator."""
        caller = current_caller()
        return GetCallerResponse(name=caller.name, role=caller.role, tenant=caller.tenant)

    @guarded
    async def CreateOperator(  # noqa: N802 - the contract's name
        self, request: CreateOperatorRequest, _context: Context
    ) -> CreateOperatorResponse:
        """Make an operator. The token is in this answer and nowhere else: the database has only a keyed hash of it."""
        self.leadership.require()
        operator = checked_operator(request)
        async with self.database.transaction() as conn:
            if request.idempotency_key:
                return await self._create_once(conn, request, operator)
            token = Token.new(OPERATOR)
            return await create_operator(conn, operator, token, self.pepper)

    async def _create_once(
        self, conn: Connection, request: CreateOperatorRequest, operator: Operator
    ) -> CreateOperatorResponse:
        """The first answer again where the request is repeated; the token follows from the key, which the caller alone has."""
        if len(request.idempotency_key) < SHORTEST_IDEMPOTENCY_KEY:
            raise InvalidError(
                f"an idempotency key of less than {SHORTEST_IDEMPOTENCY_KEY} characters can be guessed",
                "Send a random one, such as a UUID; the token follows from it.",
            )
        seed = hmac.digest(self.pepper, f"operator\0{request.idempotency_key}".encode(), hashlib.sha256)
        token = Token.made_of(OPERATOR, seed.hex()[:12], hmac.digest(self.pepper, b"token\0" + seed, hashlib.sha256))
        name = f"create-operator:{hashlib.sha256(request.idempotency_key.encode()).hexdigest()}"
        bare = CreateOperatorRequest()
        bare.CopyFrom(request)
        bare.ClearField("idempotency_key")
        digest = hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()
        if (first := await idempotency.remembered(conn, name, digest)) is not None:
            return CreateOperatorResponse(operator=Operator.FromString(first), token=token.text)
        response = await create_operator(conn, operator, token, self.pepper)
        await idempotency.remember(conn, name, digest, response.operator.SerializeToString(), datetime.now(UTC))
        return response

    @guarded
    async def ListOperators(self, _request: ListOperatorsRequest, _context: Context) -> ListOperatorsResponse:  # noqa: N802
        """All operators, revoked ones too."""
        async with self.database.transaction() as conn:
            return ListOperatorsResponse(operators=await operators.list_operators(conn))

    @guarded
    async def RevokeOperator(  # noqa: N802 - the contract's name
        self, request: RevokeOperatorRequest, _context: Context
    ) -> RevokeOperatorResponse:
        """Revoke an operator's token. The caller's own is refused, so that the last administrator stays."""
        self.leadership.require()
        if current_caller().name == request.name:
            raise SafetyError("an operator does not revoke its own token", "Have another administrator do it.")
        async with self.database.transaction() as conn:
            operator = await operators.revoke_operator(conn, request.name, datetime.now(UTC))
        self.authenticator.forget(request.name)
        return RevokeOperatorResponse(operator=operator)


def checked_operator(request: CreateOperatorRequest) -> Operator:
    """The operator that ``request`` describes. Raises InvalidError or DeniedError."""
    if not NAME.fullmatch(request.name):
        raise InvalidError(f"{request.name!r} is not a name: {NAME_RULE}")
    if request.role not in (Operator.ROLE_VIEWER, Operator.ROLE_OPERATOR, Operator.ROLE_ADMIN):
        raise InvalidError("an operator needs a role", "Choose of: viewer, operator, admin.")
    if request.HasField("expires_at") and request.expires_at.ToDatetime(UTC) <= datetime.now(UTC):
        raise InvalidError("the token would have expired already", "Give a time to come.")
    caller = current_caller()
    if caller.tenant and request.tenant != caller.tenant:
        raise DeniedError(f"{caller.name} makes operators of the tenant {caller.tenant} alone")
    operator = Operator(name=request.name, role=request.role, tenant=request.tenant)
    if request.HasField("expires_at"):
        operator.expires_at.CopyFrom(request.expires_at)
    return operator


async def create_operator(
    conn: Connection, operator: Operator, token: Token, pepper: bytes, *, replace: bool = False
) -> CreateOperatorResponse:
    """Store ``operator`` with the hash of ``token``; with ``replace`` also in place of one of that name.

    Raises ConflictError where the name was given before, NotFoundError where there is no such tenant.
    """
    if operator.tenant:
        await tenants.get_tenant(conn, operator.tenant)
    operator.token_id = token.id
    operator.created_at.FromDatetime(datetime.now(UTC))
    await (operators.replace_operator if replace else operators.create_operator)(conn, operator, token.hash(pepper))
    return CreateOperatorResponse(operator=operator, token=token.text)
