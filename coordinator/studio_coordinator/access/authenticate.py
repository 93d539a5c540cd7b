"""From what came with a call to who calls.

In this order: the certificate of an agent or a gateway; a bearer token (the local one, or an operator's); nothing, which is
enough on a loopback listener that asks for no tokens. A token that is not good is refused: it never falls back to less.
"""

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from uuid import uuid4

from studio.v1.access_service_pb2 import Operator
from studio.v1.identity_service_pb2 import Identity
from studio_runtime.errors import UnauthenticatedError
from studio_runtime.identity.names import NodeName

from studio_coordinator.access.caller import Caller, Kind
from studio_coordinator.access.local_token import LocalToken
from studio_coordinator.store import operators
from studio_coordinator.store.database import Database
from studio_coordinator.tokens import OPERATOR, Token

AUTHORIZATION, BEARER = "authorization", "Bearer "
# A label that a caller gives itself where nothing proves more.
ACTOR, REQUEST_ID = "studio-actor", "studio-request-id"
SUBJECT_ALTERNATIVE_NAME = "x509_subject_alternative_name"
LONGEST_LABEL = 200
NODES = {
    Identity.KIND_AGENT: Kind.AGENT,
    Identity.KIND_GATEWAY: Kind.GATEWAY,
    Identity.KIND_CONSOLE: Kind.CONSOLE,
}
# A token that was revoked through another coordinator, or a console's certificate that was, may work for so long.
REMEMBERED_SECONDS = 5.0
MOST_REMEMBERED = 1000
HINT = "Give a token: `studio login`, or STUDIO_TOKEN_FILE. An administrator makes one with `studio operators create`."

Metadata = Mapping[str, str | bytes]
Peer = Mapping[str, Iterable[bytes]]


@dataclass
class Authenticator:
    """Knows the tokens."""

    database: Database
    pepper: bytes
    # None: whoever reaches the listener may do anything, as on plain loopback.
    local_token: LocalToken | None = None
    # Raises DeniedError for a certificate that is refused though TLS took it. None: nobody has one here.
    admit: Callable[[NodeName], Awaitable[object]] | None = None
    _admitted: dict[NodeName, float] = field(default_factory=dict)
    _remembered: dict[str, tuple[float, Operator]] = field(default_factory=dict)

    async def caller(self, metadata: Metadata, auth_context: Peer, peer: str) -> Caller:
        """Who calls. Raises UnauthenticatedError, or DeniedError for a console that is refused."""
        unknown = Caller(request_id=_label(metadata, REQUEST_ID) or uuid4().hex, peer=peer)
        node = node_of(auth_context)
        kind = NODES[node.kind] if node is not None else Kind.NOBODY
        if node is not None and kind is not Kind.CONSOLE:
            return replace(unknown, kind=kind, name=node.id)
        if node is not None:
            await self._admit_console(node)
        text = _label(metadata, AUTHORIZATION, len(BEARER) + 200)
        if text.startswith(BEARER):
            return await self._holder(text.removeprefix(BEARER), unknown, _label(metadata, ACTOR))
        if text:
            raise UnauthenticatedError("the authorization is no bearer token", HINT)
        if self.local_token is None:
            return _local(unknown, _label(metadata, ACTOR))
        return replace(unknown, kind=kind)

    def forget(self, name: str) -> None:
        """Look the operator's token up anew at its next use: it was revoked."""
        self._remembered = {text: known for text, known in self._remembered.items() if known[1].name != name}

    async def _admit_console(self, node: NodeName) -> None:
        """Agents and gateways are admitted by the services made for them; a console calls those of operators."""
        now = time.monotonic()
        if self.admit is None or now - self._admitted.get(node, float("-inf")) < REMEMBERED_SECONDS:
            return
        await self.admit(node)
        if len(self._admitted) >= MOST_REMEMBERED:
            self._admitted.clear()
        self._admitted[node] = now

    async def _holder(self, text: str, unknown: Caller, actor: str) -> Caller:
        if self.local_token is not None and self.local_token.is_it(text):
            return _local(unknown, actor)
        token = Token.read(text, OPERATOR)
        if token is None:
            raise UnauthenticatedError("the token is not one of an operator, or was not copied whole", HINT)
        operator = await self._operator(token)
        if operator.HasField("expires_at") and operator.expires_at.ToDatetime(UTC) <= datetime.now(UTC):
            raise UnauthenticatedError(f"the token of operator {operator.name} has expired", HINT)
        return replace(unknown, kind=Kind.OPERATOR, name=operator.name, role=operator.role, tenant=operator.tenant)

    async def _operator(self, token: Token) -> Operator:
        at, operator = self._remembered.get(token.text, (0.0, Operator()))
        if at and time.monotonic() - at < REMEMBERED_SECONDS:
            return operator
        async with self.database.transaction() as conn:
            found = await operators.by_token(conn, token.id)
            # The same words for an unknown id and for a wrong secret: neither tells the other.
            if found is None or not token.is_hashed_as(found[1], self.pepper) or found[0].HasField("revoked_at"):
                raise UnauthenticatedError("the token is not good, or no longer", HINT)
            await operators.note_use(conn, found[0].name, datetime.now(UTC))
        if len(self._remembered) >= MOST_REMEMBERED:
            self._remembered.clear()
        self._remembered[token.text] = (time.monotonic(), found[0])
        return found[0]


def node_of(auth_context: Peer) -> NodeName | None:
    """The node whose certificate the connection proved; None where there is none."""
    names = auth_context.get(SUBJECT_ALTERNATIVE_NAME) or ()
    found = [node for name in names if (node := NodeName.parse(name.decode("utf-8", "replace"))) is not None]
    return found[0] if len(found) == 1 else None


def _local(unknown: Caller, actor: str) -> Caller:
    return replace(unknown, kind=Kind.LOCAL, name=actor or "unknown", role=Operator.ROLE_ADMIN)


def _label(metadata: Metadata, key: str, longest: int = LONGEST_LABEL) -> str:
    value = metadata.get(key, "")
    return value[:longest] if isinstance(value, str) else ""
