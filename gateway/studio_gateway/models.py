"""The list of models, as OpenAI's clients read it ★."""

from typing import Any

from studio_gateway.keys import Key
from studio_gateway.table import Model, Routes

OWNER = "vllm-studio"


def find(routes: Routes, key: Key, name: str) -> Model | None:
    """The model that ``name`` is to this key; None both where there is none and where the key may not use it."""
    model = routes.by_name.get(name)
    return model if model is not None and _is_for(key, name, model) else None


def usable_names(routes: Routes, key: Key) -> list[str]:
    """The public names and aliases that ``key`` may use, sorted."""
    return sorted(name for name, model in routes.by_name.items() if _is_for(key, name, model))


def listing(routes: Routes, key: Key) -> dict[str, Any]:
    """``GET /v1/models``: every name that the key may use."""
    data = [document(name, routes.by_name[name]) for name in usable_names(routes, key)]
    return {"object": "list", "data": data}


def document(name: str, model: Model) -> dict[str, Any]:
    """``GET /v1/models/{name}``."""
    return {"id": name, "object": "model", "created": model.created_seconds, "owned_by": OWNER}


def _is_for(key: Key, name: str, model: Model) -> bool:
    return (not model.tenant or model.tenant == key.tenant) and key.may_use(name, model.name)
