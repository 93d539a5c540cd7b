"""The recipe's `args` where an engine has only some of them: what it cannot be told is refused, not ignored."""

from collections.abc import Collection, Mapping

from studio.v1.recipe_pb2 import EngineArgs

from studio_agent.engines.errors import RecipeError


def refuse_others(args: EngineArgs, engine: str, taken: Collection[str], always: Mapping[str, bool]) -> None:
    """Raise RecipeError for a set field that the engine has no setting for.

    ``taken`` fields have one; those in ``always`` have a fixed meaning, and may be said if they say just that.
    """
    for field, value in args.ListFields():
        path = f"args.{field.name}"
        if field.name == "demo":
            raise RecipeError(path, "is for the demo engine only")
        if field.name in taken or (field.name in always and always[field.name] is value):
            continue
        if field.name in always:
            raise RecipeError(path, f"{engine} always has this {'on' if always[field.name] else 'off'}")
        raise RecipeError(
            path, f"{engine} has no such setting", "Leave it out, or look among the engine's own: extra_args."
        )


def translated(path: str, said: str, words: Mapping[str, str]) -> str:
    """The engine's word for ``said``. Raises RecipeError, with the words there are."""
    try:
        return words[said]
    except KeyError:
        raise RecipeError(path, f"{said!r} is not among: {', '.join(sorted(words))}") from None


def local_path(source: str) -> str:
    """A source as engines read it: `path:///x` is `/x`, `hf://a/b` is `a/b`."""
    return source.removeprefix("path://").removeprefix("hf://")
