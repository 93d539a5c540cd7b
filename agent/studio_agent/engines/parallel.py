"""How many GPUs share each layer, out of what a recipe asks and what is assigned."""

from studio.v1.recipe_pb2 import EngineArgs

from studio_agent.engines.errors import RecipeError


def tensor_parallel(args: EngineArgs, gpus: int) -> int | None:
    """GPUs for each layer. `auto`, and nothing at all on several GPUs, means: all that are left by pipelines and copies.

    None: the recipe says nothing and there is nothing to share. Raises RecipeError where it does not come out even.
    """
    others = (args.pipeline_parallel or 1) * (args.data_parallel or 1)
    wanted = args.tensor_parallel.value if args.tensor_parallel.WhichOneof("kind") == "value" else 0
    if not wanted and gpus % others:
        raise RecipeError(
            "args.tensor_parallel", f"{gpus} GPUs cannot be shared evenly by {others} pipelines or copies"
        )
    if gpus and wanted * others > gpus:
        raise RecipeError("args.tensor_parallel", f"needs {wanted * others} GPUs, but {gpus} are assigned")
    if wanted:
        return wanted
    return max(1, gpus // others) if args.HasField("tensor_parallel") or gpus > others else None
