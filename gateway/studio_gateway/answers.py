"""What the gateway answers out of itself: probes, the models of a key, and which paths are an API's at all."""

import functools

from studio_gateway import models
from studio_gateway import openai_errors as errors
from studio_gateway.exchange import Exchange
from studio_gateway.in_force import InForce
from studio_gateway.keys import Key
from studio_gateway.table import Routes

API = "/v1/"
# Engines change themselves through these; the coordinator alone does that.
ENGINE_ADMINISTRATION = frozenset(("/v1/load_lora_adapter", "/v1/unload_lora_adapter"))


def answer_probe(exchange: Exchange, in_force: InForce) -> None:
    """``/health`` and ``/ready``."""
    if exchange.path == "/health":
        exchange.answer_json({"status": "ok"})
        return
    routes, keys = in_force.routes, in_force.keys
    versions = {"routes": routes.version if routes else None, "keys": keys.version if keys else None}
    is_ready = routes is not None and keys is not None
    exchange.answer_json({"ready": is_ready} | versions, 200 if is_ready else 503)


def answer_models(exchange: Exchange, routes: Routes, key: Key) -> None:
    """``/v1/models`` and each below it. Raises ApiError."""
    if exchange.method not in ("GET", "HEAD"):
        raise errors.method_not_allowed(exchange.method, exchange.path)
    name = exchange.path.removeprefix("/v1/models").removeprefix("/")
    if not name:
        exchange.answer_json(models.listing(routes, key))
        return
    model = models.find(routes, key, name)
    if model is None:
        raise errors.model_not_found(name, models.usable_names(routes, key))
    exchange.answer_json(models.document(name, model))


@functools.lru_cache(maxsize=1024)
def is_api_path(path: str, raw_path: str) -> bool:
    """Whether the path is one under /v1/ that reads the same however often it is decoded or normalised."""
    if not path.startswith(API) or not raw_path.startswith(API) or path in ENGINE_ADMINISTRATION:
        return False
    return "\\" not in path and not {"", ".", ".."}.intersection(path.removeprefix(API).split("/"))
