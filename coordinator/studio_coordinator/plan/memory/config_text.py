"""The part of a config.json that describes the language model, with the defaults filled in."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from studio_coordinator.plan.memory.config_defaults import CONFIG_DEFAULTS

Config: TypeAlias = Mapping[str, Any]

_NESTED = ("text_config", "llm_config", "language_config", "language_model_config")
# Sections of the language model that older families split their sizes over.
_PARTS = ("attn_config", "ffn_config")
# What a multimodal file may state once, outside the section of its language model.
_SHARED = ("quantization_config", "torch_dtype", "dtype", "tie_word_embeddings", "architectures", "vocab_size")


def text_section(config: Config) -> dict[str, Any]:
    """The language model's own section over the shared keys around it, over the defaults of its `model_type`."""
    section = config
    for outer in ("thinker_config",):
        if isinstance(section.get(outer), Mapping):
            section = section[outer]
    for name in _NESTED:
        if isinstance(section.get(name), Mapping):
            shared = {key: config[key] for key in _SHARED if config.get(key) is not None}
            section = shared | dict(section[name])
            break
    parts = [section[name] for name in _PARTS if isinstance(section.get(name), Mapping)]
    section = {key: value for part in parts for key, value in part.items()} | dict(section)
    defaults = CONFIG_DEFAULTS.get(str(section.get("model_type", "")), {})
    # A null in the file is a statement too (no window, no low-rank queries): it wins over the default.
    return dict(defaults) | dict(section)


def element_type_of(text: Config) -> str:
    """The type in which the model's own weights are kept; bfloat16 where the file does not say."""
    return str(text.get("torch_dtype") or text.get("dtype") or "bfloat16")


def integer(text: Config, *names: str) -> int | None:
    """The first of the named keys that holds a whole number; a negative one stands for none."""
    for name in names:
        value = text.get(name)
        if isinstance(value, list) and value and all(item == value[0] for item in value):
            value = value[0]
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return None
