"""Why an engine's program or a model cannot be had."""

from studio_runtime.errors import StudioError


class EnvironmentFailedError(StudioError):
    """An engine's program is not there and could not be put there; ``reason`` is a word of the failure table."""

    def __init__(self, reason: str, message: str, hint: str) -> None:
        super().__init__(message, hint)
        self.failure_reason = reason


class InstallBrokenOffError(EnvironmentFailedError):
    """An installation broke off for a reason that may pass: an index that does not answer, a process that was killed."""

    retryable = True


class ModelMissingError(StudioError):
    """The files of a model are not where the recipe says."""

    reason = "model_missing"
