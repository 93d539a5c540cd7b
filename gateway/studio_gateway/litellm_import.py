"""LiteLLM's import: 2 s of CPU and 240 MiB that most gateways never need; and what an operator sets of it by a file.

The file has the form of a LiteLLM proxy's, of which one part counts::

    litellm_settings:
      callbacks: [my_package.guard.instance, langfuse]
      drop_params: true

A name with a dot is an object of a module on the path, any other one of LiteLLM's own integrations. Every other setting is an
attribute of the module ``litellm``. The rest of such a file (models, keys, routing) is the fleet's own business: it is refused.
"""

import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from studio_gateway.litellm_names import judge_names
from studio_gateway.litellm_redirects import follow_none

# Before the import: no price list from the network, no .env file of whatever folder this is.
ENVIRONMENT = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION"}
PROXY_APPLICATION = "litellm.proxy.proxy_server"
SETTINGS = "litellm_settings"
CALLBACKS = ("callbacks", "success_callback", "failure_callback")
# What would undo the gateway's own: retries, and addresses or keys for every provider at once.
NOT_TO_SET = frozenset(("num_retries", "api_base", "api_key", "master_key", "telemetry", "cache"))


class LiteLlmConfigError(Exception):
    """The file of LiteLLM's settings cannot be used; the text says why."""


def import_litellm(settings: Mapping[str, Any]) -> ModuleType:
    """The module, set up. Takes seconds. Raises ImportError, LiteLlmConfigError."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # Where its dependencies are installed as well, LiteLLM would import its proxy application in the middle of a request, for
    # seconds, on the event loop. This is what the import system reads as "known to be missing".
    sys.modules.setdefault(PROXY_APPLICATION, None)  # type: ignore[arg-type] # the table's type does not allow for it
    # These come with LiteLLM.
    import anyio  # noqa: PLC0415 - see above
    import httpx  # noqa: PLC0415 - see above
    import litellm  # noqa: PLC0415 - see above
    from aiohttp import connector  # noqa: PLC0415 - see above

    follow_none(httpx)
    judge_names(connector, anyio)

    litellm.telemetry = False
    litellm.suppress_debug_info = True
    litellm.turn_off_message_logging = True
    # Prices and limits of its own would only contradict the coordinator's.
    litellm.num_retries = 0
    for name, value in settings.items():
        _set(litellm, name, value)
    module: ModuleType = litellm
    return module


def read_settings(file: Path) -> dict[str, Any]:
    """What ``file`` sets. Raises LiteLlmConfigError."""
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise LiteLlmConfigError(f"{file} cannot be read: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get(SETTINGS, {}), dict):
        raise LiteLlmConfigError(f"{file} has to be a mapping with a mapping {SETTINGS!r} in it.")
    if others := sorted(str(name) for name in document if name != SETTINGS):
        raise LiteLlmConfigError(f"{file} may only have {SETTINGS!r}; the fleet decides {', '.join(others)}.")
    settings: dict[str, Any] = document.get(SETTINGS, {})
    if refused := sorted(NOT_TO_SET.intersection(settings)):
        raise LiteLlmConfigError(f"{file} sets {', '.join(refused)}, which the gateway decides.")
    for name in CALLBACKS:
        if not _are_names(settings.get(name, [])):
            raise LiteLlmConfigError(f"{file}: {name!r} has to be a list of names.")
    return settings


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _set(litellm: Any, name: str, value: Any) -> None:
    if name in CALLBACKS:
        getattr(litellm, name).extend(_callback(one) for one in value)
    elif hasattr(litellm, name):
        setattr(litellm, name, value)
    else:
        raise LiteLlmConfigError(f"LiteLLM has no setting {name!r}.")


def _callback(name: str) -> Any:
    module, dot, attribute = name.rpartition(".")
    if not dot:
        return name
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise LiteLlmConfigError(f"The callback {name!r} cannot be imported: {error}.") from error
