"""How TabbyAPI and exllamav3 fail: a table."""

from studio_agent.engines.failures import rule
from studio_agent.engines.python_failures import PYTHON_FAILURES

TABBYAPI_FAILURES = (
    rule(
        "weights_oom",
        r"Insufficient (?:VRAM|memory|space)|out of memory\. Tried to allocate (?P<size>[\d.]+ \w+)",
        "The model and its cache do not fit into the GPUs' memory.",
        "Lower args.max_model_len or extra_args.cache-size, use args.kv_cache_dtype: q6, or more GPUs.",
    ),
    rule(
        "port_in_use",
        r"[Pp]orts? (?P<port>\d+) (?:and \d+ are|is currently) in use",
        "Port {port} was taken by another process.",
        "It is tried again on another port.",
        retryable=True,
    ),
    rule(
        "quantization_unsupported",
        r"Models quantized with '(?P<method>\w+)' require the exllamav2 backend",
        "TabbyAPI no longer loads models quantized with {method}.",
        "Use a model in EXL3, or one that is not quantized.",
    ),
    rule(
        "gpu_unsupported",
        r"unsupported GPU is found in this configuration|Unable to run ExllamaV3",
        "exllamav3 needs NVIDIA GPUs of the Ampere generation or newer.",
        "Place the recipe on other hosts (resources.gpu.model), or use another engine.",
    ),
    rule(
        "environment_broken",
        r"Inference dependencies for TabbyAPI are not installed|required dependencies are not installed",
        "exllamav3 is missing in TabbyAPI's environment.",
        "Run the update script of the checkout that engine.path names.",
    ),
    rule(
        "environment_broken",
        r"package (?P<name>\S+) .*(?:out of date|outdated)|minimum of version",
        "A package in TabbyAPI's environment is too old.",
        "Run the update script of the checkout that engine.path names.",
    ),
    rule(
        "arch_unsupported",
        r"Unknown architecture (?P<name>\S+)|[Aa]rchitecture (?P<other>\S+) (?:is )?not supported",
        "exllamav3 does not know the model's architecture.",
        "Try a newer checkout, or another engine.",
    ),
    rule(
        "config_invalid",
        r"YAML config from '[^']*' couldn't load|validation errors? for TabbyConfigModel",
        "TabbyAPI refused its configuration.",
        "Mend the recipe's args or extra_args.",
    ),
    *PYTHON_FAILURES,
)
