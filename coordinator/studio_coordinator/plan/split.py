"""The smallest splits of a model for a fleet with GPUs of several sizes, where the recipe leaves that to the estimate.

A large GPU may hold alone what four small ones hold together. Each kind of GPU gets the fewest tensor-parallel ranks with which
it holds the model; a replica goes where the fewest are enough, else, if there is room, where more are. Where no single host
holds the model it goes over as few hosts as hold it, one stage of the pipeline on each.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from studio.v1.recipe_pb2 import Recipe

from studio_coordinator.plan.memory.facts import ModelFacts
from studio_coordinator.plan.memory.parallel import why_not
from studio_coordinator.plan.parallelism import hosts_named, parallelism

# Engines that can run one replica over several hosts, and of whose memory something is known.
ACROSS_HOSTS = frozenset({"vllm", "sglang"})
MOST_HOSTS = 16

Kind = TypeVar("Kind")
# Whether a GPU of this kind holds its part with so many tensor-parallel ranks, over so many hosts (0: as the recipe says).
Holds: TypeAlias = Callable[[Kind, int, int], bool]


@dataclass(frozen=True)
class Split(Generic[Kind]):
    """Tensor-parallel ranks, hosts (0: as the recipe says), and the kinds of GPUs for which it is the smallest."""

    tensor_parallel: int
    hosts: int
    kinds: tuple[Kind, ...]


def smallest_splits(
    recipe: Recipe, facts: ModelFacts, kinds: Mapping[Kind, int], holds: Holds[Kind]
) -> list[Split[Kind]]:
    """The splits, fewest ranks first; empty where the recipe leaves nothing open. ``kinds``: the most GPUs on one host."""
    count = recipe.resources.gpu.count.WhichOneof("kind")
    if recipe.args.tensor_parallel.WhichOneof("kind") != "auto" or count == "value":
        return []
    hosts, (_, pipeline, data) = max(1, hosts_named(recipe)), parallelism(recipe, 1)
    most = hosts * max(kinds.values(), default=0) // (pipeline * data)
    possible = [
        ranks
        for ranks in range(1, most + 1)
        if not ranks * pipeline * data % hosts and not why_not(facts, ranks, pipeline)
    ]
    splits: list[Split[Kind]] = []
    left = dict(kinds)
    for ranks in possible:
        here = [
            kind
            for kind, on_host in left.items()
            if on_host * hosts >= ranks * pipeline * data and holds(kind, ranks, 0)
        ]
        if here:
            splits.append(Split(ranks, 0, tuple(here)))
        for kind in here:
            del left[kind]
    # It fits nowhere: the refusals say what is missing on the most GPUs there are.
    return splits or _across(recipe, facts, kinds, holds) or [Split(max(possible, default=1), 0, ())]


def _across(recipe: Recipe, facts: ModelFacts, kinds: Mapping[Kind, int], holds: Holds[Kind]) -> list[Split[Kind]]:
    """Over the fewest hosts on which some kind of GPU holds it, with all of its GPUs that can share a layer."""
    if not may_cross(recipe) or recipe.args.HasField("pipeline_parallel"):
        return []
    for hosts in range(2, min(MOST_HOSTS, facts.layers) + 1):
        for kind, on_host in kinds.items():
            ranks = max((ranks for ranks in range(1, on_host + 1) if not why_not(facts, ranks, hosts)), default=0)
            if ranks and holds(kind, ranks, hosts):
                return [Split(ranks, hosts, (kind,))]
    return []


def hosts_for_count(recipe: Recipe, kinds: Mapping[Kind, int]) -> int:
    """Over how many hosts as many GPUs go as the recipe names, where it names no hosts; 0: over one, or nobody knows."""
    count, most = recipe.resources.gpu.count.value, max(kinds.values(), default=0)
    if not may_cross(recipe) or not 0 < most < count:
        return 0
    return next((hosts for hosts in range(2, count + 1) if count % hosts == 0 and count // hosts <= most), 0)


def may_cross(recipe: Recipe) -> bool:
    """Whether a replica may go over several hosts without being asked to."""
    whole = not recipe.resources.gpu.HasField("share") and recipe.args.data_parallel <= 1
    return whole and not hosts_named(recipe) and recipe.engine.name in ACROSS_HOSTS
