"""The list of models, as OpenAI's clients read it ★."""

from typing import Any

from studio_gateway.keys import Key
from studio_gateway.table import Model, Routes, usable_names

OWNER = "vllm-studio"


def find(routes: Routes, key: Key, name: str) -> Model | None:
    """The model that ``name`` is to this key; None both where there is none and where the key may not use it."""
    model = routes.by_name.get(name)
    return model if model is not None and key.may_use(name, model.name) else None


def listing(routes: Routes, key: Key) -> dict[str, Any]:
    """``GET /v1/models``: every name that the key may use."""
    data = [document(name, routes.by_name[name]) for name in usable_names(routes, key.models)]
    return {"object": "list", "data": data}


def document(name: str, model: Model) -> dict[str, Any]:
    """``GET /v1/models/{name}``."""
    return {"id": name, "object": "model", "created": model.created_seconds, "owned_by": OWNER}
