"""What is served first: the manifest that ``studio up`` applies. Pure."""

import re
from typing import Any

import yaml
from studio.v1.recipe_pb2 import Recipe

from studio_cli.up.options import UpOptions

LONGEST_NAME = 63


def first_name(options: UpOptions) -> str:
    """The public model name: as asked for, else from the model, else the engine's."""
    if options.name:
        return options.name
    return sanitised(options.model.rstrip("/").rpartition("/")[2]) if options.model else "demo"


def sanitised(text: str) -> str:
    """``text`` as a name: letters, digits, dots, dashes and underscores."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")
    return name[:LONGEST_NAME].rstrip("-._") or "model"


def manifest(options: UpOptions, gpu_count: int) -> str:
    """Recipe and deployment as YAML, for a host with ``gpu_count`` GPUs."""
    name = first_name(options)
    documents: list[dict[str, Any]] = [
        {"kind": "Recipe", "name": name, **recipe(options, gpu_count)},
        {"kind": "Deployment", "name": name, "recipe": name, "replicas": {"min": 1, "max": 1}},
    ]
    return yaml.safe_dump_all(documents, sort_keys=False)


def recipe(options: UpOptions, gpu_count: int) -> dict[str, Any]:
    """The recipe without its name."""
    if options.engine in ("", "demo"):
        return {
            "description": "A stand-in that talks like an engine and holds no model",
            "engine": {"name": "demo"},
            "resources": {"gpu": {"count": 0}},
        }
    folder = options.model_directory
    engine = {"name": options.engine}
    if options.engine_path:
        engine["path"] = options.engine_path
    # A CPU has no graphs to capture, and the engine would take most of the host's memory for its cache.
    on_cpu = {"enforce_eager": True, "kv_cache_memory": "1GiB"}
    return {
        "model": {"source": f"path://{folder}" if folder else f"hf://{options.model.removeprefix('hf://')}"},
        "engine": engine,
        "args": {} if gpu_count else on_cpu,
        "resources": {"gpu": {"count": 1 if gpu_count else 0}},
    }


def is_as_asked(present: Recipe, options: UpOptions) -> bool:
    """Whether ``present`` already serves the model with the engine that ``options`` name."""
    asked = recipe(options, gpu_count=0)
    return bool(
        present.engine.name == asked["engine"]["name"]
        and present.engine.path == asked["engine"].get("path", "")
        and present.model.source == asked.get("model", {}).get("source", "")
    )
