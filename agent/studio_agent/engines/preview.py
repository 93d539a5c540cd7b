"""What a recipe becomes, to be shown: the same command that would be run, with secrets masked."""

import re
from dataclasses import replace

from studio.v1.recipe_pb2 import Recipe

from studio_agent.engines import driver_for
from studio_agent.engines.base import LaunchContext, LaunchSpec

SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|(?:^|_)(?:API_?)?KEY(?:$|_)|_AUTH")
MASK = "********"


def preview(recipe: Recipe, context: LaunchContext) -> LaunchSpec:
    """The launch spec of ``recipe`` in an assumed ``context``. Raises RecipeError and UnknownEngineError, as the start would."""
    spec = driver_for(recipe.engine.name).launch_spec(recipe, context)
    masked = {name: MASK if SECRET_NAME.search(name.upper()) else value for name, value in spec.env.items()}
    return replace(spec, env=masked)
