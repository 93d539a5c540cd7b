"""How the GPUs of one replica share its model: the sizes that a recipe names, and those that follow from what it leaves open.

========================= ==========================================================================================
what the recipe says      what follows
========================= ==========================================================================================
nothing, on one host      all its GPUs are tensor-parallel ranks
nothing, over hosts       ranks within each host, a stage of the pipeline for each host: activations cross the network
                          once for a stage, not twice for every layer
``pipeline_parallel``     the ranks are what is left of the GPUs
``tensor_parallel``       the stages are what is left of the GPUs; without a count of GPUs, one stage
both                      as it says: their product is the number of GPUs, over all hosts together
========================= ==========================================================================================
"""

from typing import NamedTuple

from studio.v1.recipe_pb2 import Recipe


class Parallelism(NamedTuple):
    """Sizes over all hosts of one replica."""

    tensor: int
    pipeline: int
    data: int

    @property
    def gpus(self) -> int:
        """One for each part."""
        return self.tensor * self.pipeline * self.data


def hosts_named(recipe: Recipe) -> int:
    """Hosts that one replica spans by the recipe's own word; 0 where it has none."""
    return recipe.resources.hosts if recipe.resources.HasField("hosts") else 0


def parallelism(recipe: Recipe, tensor_parallel: int = 0, hosts: int = 0) -> Parallelism:
    """The sizes for ``recipe``.

    ``tensor_parallel``: the estimate's answer where the recipe leaves it open; ``hosts``: over which it goes where the recipe
    names no number, because no single host holds it.
    """
    args = recipe.args
    gpus = recipe.resources.gpu.count.value * max(1, hosts_named(recipe))
    hosts = hosts_named(recipe) or hosts or 1
    tensor, pipeline, data = args.tensor_parallel.value, args.pipeline_parallel, args.data_parallel or 1
    if tensor:
        return Parallelism(tensor, pipeline or (max(1, gpus // (tensor * data)) if hosts > 1 else 1), data)
    pipeline = pipeline or hosts
    return Parallelism(tensor_parallel or max(1, gpus // (pipeline * data)), pipeline, data)
