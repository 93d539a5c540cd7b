"""Refusals of the estimate: the question cannot be answered as it was put."""


class EstimateError(Exception):
    """The memory cannot be estimated for this question."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UnknownEngineError(EstimateError):
    """There are no memory rules for this engine."""

    def __init__(self, engine: str) -> None:
        super().__init__(f"there are no memory rules for engine {engine!r}", "Ask for vllm or sglang.")


class NothingKnownError(EstimateError):
    """Neither the shape of the model nor the size of its weights is known, so there is nothing to bound it by."""

    def __init__(self) -> None:
        super().__init__(
            "neither the shape of the model nor the size of its weights is known",
            "Name the directory that holds its config.json and weights, or say --weights-bytes.",
        )


class ConfigError(EstimateError):
    """A config.json that cannot be made sense of."""

    def __init__(self, problem: Exception) -> None:
        super().__init__(f"its config.json cannot be made sense of: {problem}", "Compare it with the model's own.")


class IndivisibleError(EstimateError):
    """The model cannot be split as asked."""
