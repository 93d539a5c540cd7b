"""The entry that has a LiteLLM proxy send requests for the fleet's models to the gateway ★."""

from typing import Any

import yaml


def litellm_entry(gateway_url: str, *, prefix: str, key_variable: str) -> str:
    """YAML for the proxy's configuration: ``PREFIX/NAME`` is the fleet's model NAME, whatever there is at the time."""
    return yaml.safe_dump(litellm_config(gateway_url, prefix=prefix, key_variable=key_variable), sort_keys=False)


def litellm_config(gateway_url: str, *, prefix: str, key_variable: str) -> dict[str, Any]:
    """The same as plain values."""
    parameters = {
        "model": "hosted_vllm/*",
        "api_base": f"{gateway_url.rstrip('/').removesuffix('/v1')}/v1",
        # LiteLLM reads it from its own environment: no key is written anywhere.
        "api_key": f"os.environ/{key_variable}",
    }
    return {"model_list": [{"model_name": f"{prefix}/*", "litellm_params": parameters}]}
