"""Whether an engine takes LoRA adapters while it serves: decided by the recipe that it is started from."""

from studio.v1.recipe_pb2 import Recipe

SWITCH = "enable-lora"


def takes_adapters(recipe: Recipe) -> bool:
    """Where it has adapters from the start, or the switch in `extra_args`. Of vLLM, SGLang and the demo engine alike."""
    # Asking a map of messages for a key that it lacks would add it.
    return bool(recipe.lora) or (SWITCH in recipe.extra_args and recipe.extra_args[SWITCH].bool_value)
