"""Who calls, for the length of one RPC."""

from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum

from studio.v1.access_service_pb2 import Operator


class Kind(StrEnum):
    """What a caller proved to be."""

    # Nothing.
    NOBODY = "nobody"
    # On this machine: by the local token, or on a loopback listener that asks for none. May do anything.
    LOCAL = "local"
    OPERATOR = "operator"
    AGENT = "agent"
    GATEWAY = "gateway"
    CONSOLE = "console"


@dataclass(frozen=True)
class Caller:
    """Whoever called; ``name`` is an operator's name, or a node's id, and the actor of what they change."""

    kind: Kind = Kind.NOBODY
    name: str = "unknown"
    role: "Operator.Role.ValueType" = Operator.ROLE_UNSPECIFIED
    # Empty: the whole fleet.
    tenant: str = ""
    request_id: str = ""
    peer: str = ""

    @property
    def role_word(self) -> str:
        """``viewer``, ``operator``, ``admin``; of others what they are. A local caller named itself, and is no operator."""
        if self.role == Operator.ROLE_UNSPECIFIED or self.kind is Kind.LOCAL:
            return self.kind.value
        return Operator.Role.Name(self.role).removeprefix("ROLE_").lower()

    @property
    def is_fleet_admin(self) -> bool:
        """Whether unsafe things are theirs to allow."""
        return self.role >= Operator.ROLE_ADMIN and not self.tenant


NOBODY = Caller()
CALLER: ContextVar[Caller] = ContextVar("studio_caller", default=NOBODY)


def current_caller() -> Caller:
    """Who called the RPC that is being served."""
    return CALLER.get()
