"""What must hold of a recipe whose replicas span several hosts."""

from collections.abc import Iterator

from studio.v1.recipe_pb2 import Recipe

ENGINES_ACROSS_HOSTS = ("vllm", "sglang", "demo")
MOST_HOSTS = 64


def check_spanning(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Problems of ``resources.hosts``, with what it says beside it; (path, message)."""
    if not recipe.resources.HasField("hosts"):
        return
    hosts, gpu, args = recipe.resources.hosts, recipe.resources.gpu, recipe.args
    if not 1 <= hosts <= MOST_HOSTS:
        yield "resources.hosts", f"{hosts} is not between 1 and {MOST_HOSTS}"
        return
    if hosts == 1:
        return
    if recipe.engine.name not in ENGINES_ACROSS_HOSTS:
        yield (
            "resources.hosts",
            f"{recipe.engine.name} runs on one host; {' and '.join(ENGINES_ACROSS_HOSTS[:2])} can span",
        )
    if gpu.HasField("share"):
        yield "resources.gpu.share", "a replica over several hosts has its GPUs for itself"
    if args.data_parallel > 1:
        yield "args.data_parallel", "a replica over several hosts is one copy of the model; have more replicas instead"
        return
    yield from _check_parts(
        max(args.tensor_parallel.value, 1) * max(args.pipeline_parallel, 1), hosts, gpu.count.value, recipe
    )


def _check_parts(parts: int, hosts: int, gpus_each: int, recipe: Recipe) -> Iterator[tuple[str, str]]:
    """The parts of the model must come out even; one size that is left open is what the other leaves."""
    args = recipe.args
    both = args.tensor_parallel.WhichOneof("kind") == "value" and args.HasField("pipeline_parallel")
    if gpus_each and (hosts * gpus_each) % parts:
        yield (
            "resources.hosts",
            f"{hosts} hosts with {gpus_each} GPUs each cannot be shared by {parts} parts of the model",
        )
    elif gpus_each and both and parts != hosts * gpus_each:
        yield (
            "resources.hosts",
            f"{hosts} hosts with {gpus_each} GPUs each, but the parallel sizes in args make {parts} parts",
        )
    elif not gpus_each and both and parts % hosts:
        yield "resources.hosts", f"{parts} parts of the model cannot be shared evenly by {hosts} hosts"
