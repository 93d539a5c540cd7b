"""When another model answers instead: the names a model falls back to, tried in their order ★.

====================== ============================================================================
outage                 nothing serves the model, or its engine broke off before any of its answer left
overload               the engine says 429 or 503, or too many requests wait for the model already
context too long       the engine says that the prompt does not fit
====================== ============================================================================

What the client itself did wrong is told to the client, and a model that only sleeps is woken instead. Once a byte of an answer
has left there is no way back.
"""

from studio_gateway.openai_errors import ApiError
from studio_gateway.table import Model, Routes

# Ends of an attempt after which another model may do better.
ABSENT = frozenset(("unavailable", "upstream_error", "timeout"))
# What an engine says of itself, not of the request.
ENGINE_STATUSES = frozenset((429, 500, 502, 503, 504))
BAD_REQUEST = 400
CONTEXT_TOO_LONG = "context_length_exceeded"
# Of engines and providers that have no code for it: vLLM, SGLang, llama.cpp.
CONTEXT_WORDS = (b"context length", b"context_length", b"context window", b"exceeds the available context")


class EngineRefusalError(ApiError):
    """The engine answered, and its answer is kept from the client because another model is tried first."""


def judged(status: int, body: bytes) -> EngineRefusalError | None:
    """Why an engine's answer, whole, is no answer while there are others to ask; None: it is one."""
    if status in ENGINE_STATUSES:
        return EngineRefusalError(
            status, "engine_refused", f"The model's engine said {status}.", finish="upstream_error"
        )
    if status == BAD_REQUEST and any(words in body.lower() for words in CONTEXT_WORDS):
        return EngineRefusalError(status, CONTEXT_TOO_LONG, "The prompt is longer than the model's context.")
    return None


class Chain:
    """The models that are left to try for one request of ``tenant``; a model that is another tenant's is passed over."""

    __slots__ = ("_names", "_tenant")

    def __init__(self, model: Model, tenant: str) -> None:
        self._tenant = tenant
        self._names = [name for name in dict.fromkeys(model.fallbacks) if name != model.name]

    def __bool__(self) -> bool:
        return bool(self._names)

    def next(self, error: ApiError, routes: Routes) -> Model | None:
        """Who answers instead after ``error``; None: nobody, ``error`` is the end. A name that nobody has is passed over."""
        if error.finish not in ABSENT and error.code != CONTEXT_TOO_LONG:
            return None
        while self._names:
            model = routes.by_name.get(self._names.pop(0))
            if model is not None and model.tenant in ("", self._tenant):
                return model
        return None
