"""The desired state as a manifest: applied to an empty system it gives the same state, applied to its own it starts nothing anew.

A deployment that pins a revision comes with that revision under its number, so that the number means the same elsewhere; one
that an operator stopped says so, so that it does not start where it is imported. One of which a revision was rolled back pins
what serves (`store.desired_state`): elsewhere nothing would keep the bad one out. What follows the newest revision needs no
number: the newest recipe comes last of its name.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from studio.v1.deployment_pb2 import Deployment
from studio.v1.recipe_pb2 import RecipeRevision

from studio_coordinator.manifest.dump import documents_to_yaml, dump
from studio_coordinator.manifest.kinds import Item


@dataclass(frozen=True)
class DesiredState:
    """What is to be exported: newest revisions, revisions that deployments pin, deployments, and all else operators decide."""

    newest: list[RecipeRevision] = field(default_factory=list)
    pinned: list[RecipeRevision] = field(default_factory=list)
    deployments: list[Deployment] = field(default_factory=list)
    # Tenants, prices, providers' models, and hosts that have labels or take nothing new; in the order of a manifest.
    fleet: list[Item] = field(default_factory=list)


def export(state: DesiredState) -> str:
    """The manifest; what others name comes before them, everything in the order of names; empty where there is nothing."""
    deployments = sorted(state.deployments, key=lambda one: one.name)
    documents = [*map(dump, state.fleet), *_recipes(state), *map(_deployment, deployments)]
    return documents_to_yaml(documents) if documents else ""


def _recipes(state: DesiredState) -> Iterator[dict[str, Any]]:
    # The same text as the last number of a name makes no revision of its own where it is imported.
    last = {one.recipe_name: one.digest for one in sorted(state.pinned, key=_number)}
    newest = [(one, False) for one in state.newest if last.get(one.recipe_name) != one.digest]
    pinned = [(one, True) for one in state.pinned]
    for one, numbered in sorted([*newest, *pinned], key=lambda pair: _number(pair[0])):
        kind, *rest = dump(one.recipe).items()
        yield dict([kind, *([("revision", one.revision)] if numbered else []), *rest])


def _number(revision: RecipeRevision) -> tuple[str, int]:
    return revision.recipe_name, revision.revision


def _deployment(deployment: Deployment) -> dict[str, Any]:
    kind, *rest = dump(deployment.spec).items()
    return dict([kind, *([("stopped", True)] if deployment.stopped else []), *rest])
