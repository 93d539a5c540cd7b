"""What an engine driver refuses."""

from studio_runtime.errors import InvalidError


class RecipeError(InvalidError):
    """A recipe asks for something that its engine cannot be given; ``path`` says where, as in ``extra_args.port``."""

    reason = "recipe"

    def __init__(self, path: str, message: str, hint: str = "") -> None:
        super().__init__(f"{path}: {message}", hint)
        self.path = path


class UnknownEngineError(InvalidError):
    """There is no driver for an engine of that name."""

    reason = "unknown_engine"

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(f"there is no engine {name!r}", f"Known engines: {', '.join(known)}.")
