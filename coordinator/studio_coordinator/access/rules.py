"""The table of access: every RPC of every service. What is not here is refused, and a test fails.

Three questions, in this order:

1. *Audience*: nodes call the services made for them, operators the rest; the open calls prove their right in the request itself.
2. *Role*: viewers read, operators change, admins decide who may do what.
3. *Reach*, for operators of one tenant: ``FLEET`` is not theirs at all; ``OWN`` only for the objects that the request names, if
   they are the tenant's; ``PRUNED`` shows only what is the tenant's; ``SHARED`` is the same for everybody; ``CHECKED`` is decided
   by the servicer, which alone knows what a manifest is about.
"""

from dataclasses import dataclass
from enum import Enum, auto

from studio.v1.access_service_pb2 import Operator

VIEWER, OPERATOR, ADMIN = Operator.ROLE_VIEWER, Operator.ROLE_OPERATOR, Operator.ROLE_ADMIN


class Audience(Enum):
    """For whom an RPC is made."""

    OPEN = auto()
    AGENTS = auto()
    GATEWAYS = auto()
    OPERATORS = auto()


class Reach(Enum):
    """What of an RPC is open to an operator of one tenant."""

    FLEET = auto()
    OWN = auto()
    PRUNED = auto()
    SHARED = auto()
    CHECKED = auto()


@dataclass(frozen=True)
class Rule:
    """Who may call one RPC."""

    audience: Audience
    role: "Operator.Role.ValueType" = Operator.ROLE_UNSPECIFIED
    reach: Reach = Reach.FLEET
    # It changes something that somebody asked for: it goes into the audit log.
    changes: bool = False


def _reads(reach: Reach) -> Rule:
    return Rule(Audience.OPERATORS, VIEWER, reach)


def _changes(reach: Reach, role: "Operator.Role.ValueType" = OPERATOR) -> Rule:
    return Rule(Audience.OPERATORS, role, reach, changes=True)


OPEN = Rule(Audience.OPEN)

ADMIN_SERVICE = {
    "GetStatus": _reads(Reach.SHARED),
    "Apply": _changes(Reach.CHECKED),
    "Plan": Rule(Audience.OPERATORS, OPERATOR, Reach.CHECKED),
    "Rebalance": _changes(Reach.FLEET),
    "ListRecipes": _reads(Reach.SHARED),
    "GetRecipe": _reads(Reach.SHARED),
    "DeleteRecipe": _changes(Reach.CHECKED),
    "ListRecipeRevisions": _reads(Reach.SHARED),
    "DiffRecipe": _reads(Reach.SHARED),
    "RollbackRecipe": _changes(Reach.CHECKED),
    "ExportState": _reads(Reach.OWN),
    "ConvertRecipes": _reads(Reach.SHARED),
    "ListDeployments": _reads(Reach.PRUNED),
    "StopDeployment": _changes(Reach.OWN),
    "StartDeployment": _changes(Reach.OWN),
    "ScaleDeployment": _changes(Reach.OWN),
    "DeleteDeployment": _changes(Reach.OWN),
    "WakeDeployment": _changes(Reach.OWN),
    "SleepDeployment": _changes(Reach.OWN),
    "GetRollout": _reads(Reach.OWN),
    "PauseRollout": _changes(Reach.OWN),
    "ResumeRollout": _changes(Reach.OWN),
    "UndoRollout": _changes(Reach.OWN),
    "ListReplicas": _reads(Reach.PRUNED),
    "ListHosts": _reads(Reach.PRUNED),
    "UpdateHost": _changes(Reach.FLEET),
    "RemoveHost": _changes(Reach.FLEET),
    "RunCommand": _changes(Reach.FLEET),
    "ListEvents": _reads(Reach.PRUNED),
    "WatchEvents": _reads(Reach.PRUNED),
    "StreamLogs": _reads(Reach.OWN),
    "CreateKey": _changes(Reach.OWN),
    "ListKeys": _reads(Reach.PRUNED),
    "RevokeKey": _changes(Reach.OWN),
    "UpdateKey": _changes(Reach.OWN),
    "RotateKey": _changes(Reach.OWN),
    "PutTenant": _changes(Reach.FLEET, ADMIN),
    "ListTenants": _reads(Reach.PRUNED),
    "RemoveTenant": _changes(Reach.FLEET, ADMIN),
    "PutPrice": _changes(Reach.FLEET, ADMIN),
    "ListPrices": _reads(Reach.SHARED),
    "RemovePrice": _changes(Reach.FLEET, ADMIN),
    "AddProvider": _changes(Reach.FLEET),
    "ListProviders": _reads(Reach.SHARED),
    "RemoveProvider": _changes(Reach.FLEET),
    "ListUsage": _reads(Reach.PRUNED),
    "AcceptState": _changes(Reach.FLEET, ADMIN),
}

ACCESS_SERVICE = {
    "GetCaller": _reads(Reach.SHARED),
    "CreateOperator": _changes(Reach.OWN, ADMIN),
    "ListOperators": _reads(Reach.PRUNED),
    "RevokeOperator": _changes(Reach.OWN, ADMIN),
    "CreateJoinToken": _changes(Reach.FLEET, ADMIN),
    "ListJoinTokens": _reads(Reach.FLEET),
    "RevokeJoinToken": _changes(Reach.FLEET, ADMIN),
    "ListIdentities": _reads(Reach.FLEET),
    "RevokeIdentity": _changes(Reach.FLEET, ADMIN),
    "GetAuthority": _reads(Reach.FLEET),
    "RotateAuthority": _changes(Reach.FLEET, ADMIN),
    "PutSecret": _changes(Reach.OWN, ADMIN),
    "ListSecrets": _reads(Reach.PRUNED),
    "RemoveSecret": _changes(Reach.OWN, ADMIN),
    "ListAudit": _reads(Reach.FLEET),
    "VerifyAudit": _reads(Reach.FLEET),
    "AnchorAudit": _reads(Reach.FLEET),
}

SERVICES: dict[str, dict[str, Rule]] = {
    "studio.v1.AdminService": ADMIN_SERVICE,
    "studio.v1.AccessService": ACCESS_SERVICE,
    "studio.v1.TelemetryService": {"WatchTelemetry": _reads(Reach.FLEET), "GetHistory": _reads(Reach.FLEET)},
    "studio.v1.AgentService": dict.fromkeys(("Connect", "ReportTelemetry", "GetSecrets"), Rule(Audience.AGENTS)),
    "studio.v1.RouteService": dict.fromkeys(
        ("WatchRoutes", "ReportUsage", "LeaseQuota", "GetProviderSecrets"), Rule(Audience.GATEWAYS)
    ),
    # Its requests carry a join token, or a proof of the key of a certificate.
    "studio.v1.IdentityService": {"Join": OPEN, "Renew": OPEN},
    # Whether it serves, to load balancers; and the contract, which is public.
    "grpc.health.v1.Health": {"Check": OPEN, "List": OPEN, "Watch": OPEN},
    "grpc.reflection.v1alpha.ServerReflection": {"ServerReflectionInfo": OPEN},
}


def rule_of(method: str) -> Rule | None:
    """The rule of ``/package.Service/Method``; None where there is none, and then nobody may call it."""
    service, _, name = method.removeprefix("/").rpartition("/")
    return SERVICES.get(service, {}).get(name)


def short_name(method: str) -> str:
    """``AdminService/Apply``."""
    service, _, name = method.removeprefix("/").rpartition("/")
    return f"{service.rpartition('.')[2]}/{name}"
