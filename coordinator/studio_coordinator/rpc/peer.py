"""Who is at the other end, by the certificate that TLS has verified; never by what a message says."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from studio.v1.identity_service_pb2 import Identity
from studio_runtime.errors import DeniedError, UnauthenticatedError
from studio_runtime.identity.names import NodeName, kind_word

from studio_coordinator.authority.clones import CloneWatch
from studio_coordinator.authority.enrolment import TWO_MACHINES, Enrolment

Context = grpc.aio.ServicerContext[Any, Any]

NAMES = "x509_subject_alternative_name"


def peer_of(context: Context) -> NodeName | None:
    """The node whose certificate this connection proves; None on a port that asks for none."""
    proven: Mapping[str, Any] = context.auth_context()
    names = [NodeName.parse(bytes(name).decode("utf-8", "replace")) for name in proven.get(NAMES, ())]
    return next((name for name in names if name is not None), None)


@dataclass
class NodeGate:
    """Lets nodes in by their identity. A coordinator without TLS has none and believes what they say, on loopback."""

    enrolment: Enrolment
    clones: CloneWatch

    async def admit(self, context: Context, kind: Identity.Kind.ValueType) -> Identity:
        """The identity of the node that calls. Raises UnauthenticatedError, DeniedError."""
        name = require_peer(context, kind)
        return await self.enrolment.admit(name, context.peer())

    async def note_instance(self, context: Context, identity: Identity, instance_id: str) -> None:
        """Note which start of an agent calls. Raises DeniedError, and locks the identity, where two machines have it."""
        if self.clones.called(identity.id, instance_id):
            self.clones.forget(identity.id)
            raise await self.enrolment.lock(identity, f"{TWO_MACHINES}: they call in turn", context.peer())


def require_peer(context: Context, kind: Identity.Kind.ValueType) -> NodeName:
    """The node that calls, which must be of ``kind``. Raises UnauthenticatedError, DeniedError."""
    name = peer_of(context)
    if name is None:
        raise UnauthenticatedError("this service is for nodes with a certificate", "Let the node join first.")
    if name.kind != kind:
        raise DeniedError(f"this service is for a node of kind {kind_word(kind)}, not {kind_word(name.kind)}")
    return name


def require_id(name_id: str, said: str, what: str) -> None:
    """Refuse a message that speaks for another node. Raises DeniedError."""
    if said and said != name_id:
        raise DeniedError(f"the certificate is for {what} {name_id}, the message speaks for {said}")
