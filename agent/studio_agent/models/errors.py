"""Why the files of a model cannot be had."""

from studio_runtime.errors import StudioError


class ModelError(StudioError):
    """The files of a model cannot be had."""

    reason = "model"


class ModelMissingError(ModelError):
    """The files of a model are not where the recipe says."""

    reason = "model_missing"


class ModelOutsideError(ModelError):
    """The recipe names a directory of the host that is none for models."""

    reason = "model_outside"


class ModelGatedError(ModelError):
    """The hub hands the model only to those who accepted its terms."""

    reason = "model_gated"


class ModelDiskError(ModelError):
    """The disk has no room for the model, or cannot be written."""

    reason = "disk"


class ModelCorruptError(ModelError):
    """A file is again and again not what the hub says it is."""

    reason = "model_corrupt"
    retryable = True


class HubUnavailableError(ModelError):
    """The hub does not answer, or refuses for now."""

    reason = "hub_unavailable"
    retryable = True


class PullBrokenOffError(ModelError):
    """The process that fetches ended without a word."""

    reason = "pull_broken_off"
    retryable = True


class PullPausedError(ModelError):
    """Somebody paused the pull; what is there stays."""

    reason = "pull_paused"


class PullCancelledError(ModelError):
    """Somebody cancelled the pull; what was not whole is dropped."""

    reason = "pull_cancelled"


class ModelInUseError(ModelError):
    """The files are needed by a replica or a pull."""

    reason = "in_use"


# How the child's errors come back to the agent.
BY_REASON: dict[str, type[ModelError]] = {
    error.reason: error
    for error in (ModelMissingError, ModelGatedError, ModelDiskError, ModelCorruptError, HubUnavailableError)
}
