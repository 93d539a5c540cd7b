"""Refusals of reading a model."""

from studio_runtime.errors import InvalidError


class ModelUnreadableError(InvalidError):
    """A file of the model is missing, damaged, or not what its name says."""

    reason = "model_unreadable"
