"""How many GPUs share each layer, out of what a recipe asks and what is assigned."""

from dataclasses import dataclass

from studio.v1.assignment_pb2 import Group
from studio.v1.recipe_pb2 import EngineArgs

from studio_agent.engines.errors import RecipeError


@dataclass(frozen=True)
class Spread:
    """A model over the GPUs of several hosts: ``tensor`` GPUs share each layer, ``pipeline`` stages share the layers."""

    tensor: int
    pipeline: int


def tensor_parallel(args: EngineArgs, gpus: int) -> int | None:
    """GPUs for each layer. `auto`, and nothing at all on several GPUs, means: all that are left by pipelines and copies.

    None: the recipe says nothing and there is nothing to share. Raises RecipeError where it does not come out even.
    """
    others = (args.pipeline_parallel or 1) * (args.data_parallel or 1)
    wanted = _wanted_tensor(args)
    if not wanted and gpus % others:
        raise RecipeError(
            "args.tensor_parallel", f"{gpus} GPUs cannot be shared evenly by {others} pipelines or copies"
        )
    if gpus and wanted * others > gpus:
        raise RecipeError("args.tensor_parallel", f"needs {wanted * others} GPUs, but {gpus} are assigned")
    if wanted:
        return wanted
    return max(1, gpus // others) if args.HasField("tensor_parallel") or gpus > others else None


def spread(args: EngineArgs, gpus: int, hosts: int) -> Spread:
    """The parts of a replica over ``hosts`` hosts with ``gpus`` GPUs on each; 0: on their CPUs.

    What the recipe leaves open: the GPUs of a host share each layer, and the hosts are the stages of the pipeline, because
    between hosts only the activations at a stage's end have to travel. CPUs share each layer instead: vLLM's build for them
    starts a pipeline and fails at its first request. Raises RecipeError where it does not come out even.
    """
    if args.data_parallel > 1:
        raise RecipeError(
            "args.data_parallel",
            "a replica over several hosts is one copy of the model",
            "Have more replicas, or one host for each.",
        )
    places = max(1, gpus) * hosts
    tensor, pipeline = _wanted_tensor(args), args.pipeline_parallel
    if not tensor:
        tensor = max(1, places // pipeline) if pipeline else gpus or hosts
    pipeline = pipeline or max(1, places // tensor)
    if tensor * pipeline % hosts:
        raise RecipeError(
            "resources.hosts", f"{tensor} x {pipeline} parts of the model cannot be shared evenly by {hosts} hosts"
        )
    if gpus and tensor * pipeline > places:
        raise RecipeError(
            "args.tensor_parallel", f"{tensor} x {pipeline} parts need as many GPUs, but {hosts} hosts have {gpus} each"
        )
    return Spread(tensor, pipeline)


def refuse_group(group: Group | None, engine: str) -> None:
    """Raise RecipeError where the replica spans hosts: ``engine`` cannot."""
    if group is not None:
        raise RecipeError("resources.hosts", f"{engine} runs on one host", "vLLM and SGLang can span several.")


def _wanted_tensor(args: EngineArgs) -> int:
    """What the recipe says; 0: nothing, or `auto`."""
    return args.tensor_parallel.value if args.tensor_parallel.WhichOneof("kind") == "value" else 0
