"""The routes that give the engine a LoRA adapter and take it away, as vLLM has them; there only with `--enable-lora`.

An adapter changes nothing here but the names that the engine answers to.
"""

from pathlib import Path
from typing import Any

from aiohttp import web

from studio_agent.demo_engine.api import ENGINE, read_body
from studio_agent.demo_engine.openai_objects import ApiError

ADAPTER_FILE = "adapter_config.json"
routes = web.RouteTableDef()


@routes.post("/v1/load_lora_adapter")
async def load(request: web.Request) -> web.Response:
    """Take the adapter in the directory `lora_path` and answer to `lora_name` too."""
    engine = request.app[ENGINE]
    body = await read_body(request)
    name, path = _text(body, "lora_name"), _text(body, "lora_path")
    if name in engine.model_names:
        raise ApiError(400, f"The lora adapter '{name}' has already been loaded.", param="lora_name")
    if not (Path(path) / ADAPTER_FILE).is_file():
        raise ApiError(404, f"No adapter found for '{path}'.", param="lora_path")
    engine.adapters[name] = path
    return web.Response(text=f"Success: LoRA adapter '{name}' added successfully.")


@routes.post("/v1/unload_lora_adapter")
async def unload(request: web.Request) -> web.Response:
    """Answer to `lora_name` no longer."""
    engine = request.app[ENGINE]
    name = _text(await read_body(request), "lora_name")
    if name not in engine.adapters:
        raise ApiError(404, f"The lora adapter '{name}' cannot be found.", param="lora_name")
    del engine.adapters[name]
    return web.Response(text=f"Success: LoRA adapter '{name}' removed successfully.")


def _text(body: dict[str, Any], field: str) -> str:
    value = body.get(field)
    if not isinstance(value, str) or not value:
        raise ApiError(400, f"{field} must be a text", param=field)
    return value
