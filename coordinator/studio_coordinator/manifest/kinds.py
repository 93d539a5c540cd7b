"""The kinds of documents of a manifest: their messages, what may be written of each, and what each is called by.

Recipes and deployments are written whole. Of the others only what operators decide is: a tenant's version, or what a host says of
itself, is nobody's to write. Keys are in no manifest: all that could be written of one is a hash that opens nothing elsewhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from studio.v1.deployment_pb2 import DeploymentSpec
from studio.v1.host_pb2 import Host
from studio.v1.recipe_pb2 import Recipe
from studio.v1.route_pb2 import Price, ProviderRoute, Tenant

Item: TypeAlias = Recipe | DeploymentSpec | Tenant | Price | ProviderRoute | Host


@dataclass(frozen=True)
class Kind:
    """One kind of document."""

    message: type[Item]
    # Fields that may be written, in their order; empty: all.
    fields: tuple[str, ...] = ()
    # The field that names it.
    name: str = "name"
    # A word beside `kind` that is no field of the message.
    beside: str = ""


KINDS: Mapping[str, Kind] = {
    "Recipe": Kind(Recipe, beside="revision"),
    "Deployment": Kind(DeploymentSpec, beside="stopped"),
    "Tenant": Kind(Tenant, ("name", "description", "limits", "weight")),
    "Price": Kind(Price, name="model"),
    "Provider": Kind(ProviderRoute, name="model"),
    "Host": Kind(Host, ("name", "labels", "cordoned", "draining")),
}
EXPECTED = "Recipe, Deployment, Tenant, Price, Provider or Host"


def kind_of(item: Item) -> str:
    """``Recipe``, ``Deployment``, …"""
    return next(word for word, kind in KINDS.items() if kind.message is type(item))


def name_of(item: Item) -> str:
    """What it is called by."""
    return str(getattr(item, KINDS[kind_of(item)].name))


def written(item: Item) -> Item:
    """A copy with no more than what may be written."""
    kind = KINDS[kind_of(item)]
    copy = type(item)()
    copy.CopyFrom(item)  # type: ignore[arg-type] # of the same type, which mypy cannot see through the union
    for field, _ in item.ListFields():
        if kind.fields and field.name not in kind.fields:
            copy.ClearField(field.name)  # type: ignore[arg-type] # a name of its own fields
    return copy
