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


class IndivisibleError(EstimateError):
    """The model cannot be split as asked."""
