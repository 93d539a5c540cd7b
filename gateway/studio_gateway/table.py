"""Routes in the form that requests use: immutable, swapped whole; and which offered table comes into force ★.

Tables are ordered by (term, version), access tables by version::

    offered     lower ──► refused: an earlier table, or an earlier leader, speaks
                same, same content ──► nothing to do, acknowledged again
                same, other content ──► refused: two leaders wrote one version
                higher, unsound ──► refused, the sentence says why
                higher ──► in force

A refusal leaves the last good table in force and is told to the coordinator. After a database is restored from an old copy, all
its tables are refused until an operator deletes the gateway's last good copy: stopping to serve is never the automatic answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import urlsplit

from studio.v1.route_pb2 import AccessTable, Endpoint, ProviderRoute, Route, RouteTable

from studio_gateway.strategies import LEAST_WORK, STRATEGIES

THROUGH_LITELLM = "litellm"


class UnsoundTableError(Exception):
    """A table contradicts itself; the text says where."""


@dataclass(frozen=True, slots=True)
class Target:
    """One endpoint of a model: an engine that listens."""

    replica_id: str
    # scheme://host:port, without a slash at the end.
    base_url: str
    weight: float
    # The name in the body that the engine answers to.
    engine_model: str
    recipe_revision: int
    # Requests that the engine works on at the same time; 0: not known.
    capacity: int = 0


@dataclass(frozen=True, slots=True)
class Model:
    """One public model: served by the fleet (``targets``) or by another ``provider``."""

    name: str
    aliases: tuple[str, ...]
    created_seconds: int
    targets: tuple[Target, ...] = ()
    unavailable_reason: str = ""
    # The reason for its absence passes by itself, soon.
    is_starting: bool = False
    provider: ProviderRoute | None = None
    # Without targets: requests are held until it is woken, so many, for so long.
    is_wakeable: bool = False
    wake_seconds: float = 0.0
    wake_queue: int = 0
    # How an endpoint is picked; what this gateway does not know yet is the default.
    strategy: str = LEAST_WORK
    # Public names of models that answer instead, in this order.
    fallbacks: tuple[str, ...] = ()
    # Whose keys alone may use it; empty: everybody's.
    tenant: str = ""
    # Its operator wants LiteLLM's callbacks and guardrails on the way to the engines.
    is_through_litellm: bool = False

    @property
    def capacity(self) -> int:
        """Requests that its engines work on at the same time; 0 where one of them does not say."""
        capacities = [target.capacity for target in self.targets]
        return sum(capacities) if all(capacities) else 0


@dataclass(frozen=True)
class Routes:
    """All models of one route table."""

    term: int
    version: int
    # Public names and aliases.
    by_name: Mapping[str, Model]

    @classmethod
    def of(cls, table: RouteTable) -> "Routes":
        """The routes that ``table`` describes; raises UnsoundTableError."""
        models = [*map(_served, table.routes), *map(_provided, table.provider_routes)]
        by_name: dict[str, Model] = {}
        for model in models:
            for name in (model.name, *model.aliases):
                if not name:
                    raise UnsoundTableError("a model or an alias has no name")
                if name in by_name:
                    raise UnsoundTableError(f"the name {name!r} stands for {by_name[name].name!r} and {model.name!r}")
                by_name[name] = model
        return cls(table.term, table.version, MappingProxyType(by_name))

    @property
    def replica_ids(self) -> list[list[str]]:
        """The replicas of each model."""
        models = {model.name: model for model in self.by_name.values()}
        return [[target.replica_id for target in model.targets] for model in models.values()]

    @property
    def all_replica_ids(self) -> frozenset[str]:
        """The replicas of all models."""
        return frozenset(target.replica_id for model in self.by_name.values() for target in model.targets)


def _served(route: Route) -> Model:
    return Model(
        name=route.model,
        aliases=tuple(route.aliases),
        created_seconds=route.created_at.seconds,
        targets=tuple(_target(endpoint, route.model) for endpoint in route.endpoints),
        unavailable_reason=route.unavailable_reason,
        is_starting=route.starting,
        is_wakeable=route.wakeable and not route.endpoints,
        wake_seconds=route.wake_deadline.seconds + route.wake_deadline.nanos / 1e9,
        wake_queue=route.wake_queue,
        strategy=route.strategy if route.strategy in STRATEGIES else LEAST_WORK,
        fallbacks=tuple(route.fallbacks),
        tenant=route.tenant,
        is_through_litellm=route.via == THROUGH_LITELLM,
    )


def _target(endpoint: Endpoint, model: str) -> Target:
    try:
        url = urlsplit(endpoint.base_url)
        sound = url.scheme in ("http", "https") and bool(url.hostname) and url.port is not None
    except ValueError:
        sound = False
    if not sound or not endpoint.replica_id:
        raise UnsoundTableError(
            f"an endpoint of {model!r} has no replica or no address with a port: {endpoint.base_url!r}"
        )
    return Target(
        replica_id=endpoint.replica_id,
        base_url=endpoint.base_url.rstrip("/"),
        weight=endpoint.weight,
        engine_model=endpoint.engine_model or model,
        recipe_revision=endpoint.recipe_revision,
        capacity=max(0, endpoint.capacity),
    )


def _provided(route: ProviderRoute) -> Model:
    return Model(name=route.model, aliases=(), created_seconds=0, provider=route, fallbacks=tuple(route.fallbacks))


def refusal_of_routes(offered: RouteTable, in_force: RouteTable | None) -> str:
    """Why ``offered`` must not replace ``in_force``; empty: it may."""
    if in_force is None:
        return ""
    here, there = (in_force.term, in_force.version), (offered.term, offered.version)
    if there < here:
        return _too_old(f"route table {there[1]} of term {there[0]}", f"{here[1]} of term {here[0]}")
    if there == here and offered != in_force:
        return f"route table {there[1]} of term {there[0]} is in force with other content"
    return ""


def refusal_of_access(offered: AccessTable, in_force: AccessTable | None) -> str:
    """Why ``offered`` must not replace ``in_force``; empty: it may."""
    if in_force is None:
        return ""
    if offered.version < in_force.version:
        return _too_old(f"access table {offered.version}", str(in_force.version))
    if offered.version == in_force.version and offered != in_force:
        return f"access table {offered.version} is in force with other content"
    return ""


def _too_old(offered: str, in_force: str) -> str:
    return (
        f"{offered} is older than {in_force}, which is in force; if the database was restored from an old copy, "
        "stop the gateway, delete last-good-*.binpb in its state folder and start it again"
    )
