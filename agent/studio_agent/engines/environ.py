"""The environment of an engine process: built from empty, with a recipe's own variables last.

A recipe may tune its engine; it may not choose which code is loaded, which devices are seen, where traffic goes, or open
routes that are meant for the agent.
"""

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import PurePath

from studio_agent.engines.base import LaunchContext
from studio_agent.engines.errors import RecipeError
from studio_agent.engines.flags import checked

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Matched against the upper-case name. The coordinator refuses the same, with its reasons; a test holds the two together.
DENIED = (
    # Which code is loaded.
    "LD_*",
    "PYTHON*",
    "PATH",
    "HOME",
    "BASH_ENV",
    "ENV",
    "GCONV_PATH",
    "CUDA_INJECTION*",
    "NCCL_*PLUGIN*",
    "VLLM_PLUGINS",
    "VLLM_LOGGING_CONFIG_PATH",
    "VLLM_ALLOW_INSECURE_SERIALIZATION",
    "SGLANG_LOGGING_CONFIG_PATH",
    "SGLANG_*PLUGIN*",
    "TORCHINDUCTOR_CACHE_DIR",
    "TRITON_CACHE_DIR",
    "TRITON_CACHE_MANAGER",
    "TRITON_PLUGIN*",
    "HF_MODULES_CACHE",
    "SGLANG_EXTERNAL_*",
    "GGML_BACKEND_PATH",
    "HSA_TOOLS_LIB",
    "OPENSSL_CONF",
    "GLIBC_TUNABLES",
    # Where traffic goes.
    "*_PROXY",
    "HF_ENDPOINT",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "VLLM_MEDIA_URL_ALLOW_REDIRECTS",
    "VLLM_USE_MODELSCOPE",
    # Which devices are seen.
    "CUDA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "GPU_DEVICE_ORDINAL",
    "NVIDIA_*",
    # Routes that are meant for the agent, and keys that would keep it out.
    "VLLM_SERVER_DEV_MODE",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING",
    "VLLM_API_KEY",
    "LLAMA_API_KEY",
    # They set any option of these two engines, past every check of `args` and `extra_args`.
    "TABBY_*",
    "LLAMA_ARG_*",
    # By which an engine's processes are known.
    "STUDIO_*",
)
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def base(context: LaunchContext) -> dict[str, str]:
    """What every engine gets. Its HOME is in the cache, so that what libraries compile is kept between starts."""
    # Engines call compilers that stand beside their own program.
    beside = str(PurePath(context.program[0]).parent)
    env = {
        "PATH": f"{beside}:{SYSTEM_PATH}" if beside.startswith("/") else SYSTEM_PATH,
        "HOME": str(context.cache_dir / "home"),
        "LANG": "C.UTF-8",
        # A crash, or the agent's SIGABRT to a hung engine, leaves every thread's stack in the log.
        "PYTHONFAULTHANDLER": "1",
    }
    return env | devices(context)


def devices(context: LaunchContext) -> dict[str, str]:
    """The one place where an engine is told its GPUs: by UUID, in the words of their vendor."""
    if not context.gpu_uuids:
        return {}
    name = {"nvidia": "CUDA_VISIBLE_DEVICES", "amd": "HIP_VISIBLE_DEVICES"}[context.gpu_vendor]
    return {name: ",".join(context.gpu_uuids)}


def hub(context: LaunchContext) -> dict[str, str]:
    """For engines that read models through `huggingface_hub`; one that has its model on the host asks nobody."""
    env = {"HF_HOME": str(context.cache_dir / "huggingface"), "DO_NOT_TRACK": "1"}
    if is_local(context.model_path):
        env["HF_HUB_OFFLINE"] = "1"
    return env


def is_local(model_path: str) -> bool:
    """Whether the model is on this host, and not a hub id."""
    return model_path.startswith("/")


def with_recipe(env: Mapping[str, str], recipe_env: Mapping[str, str]) -> dict[str, str]:
    """``env`` and the recipe's variables. Raises RecipeError where a name is denied or the agent's own."""
    for name, value in sorted(recipe_env.items()):
        path = f"env.{name}"
        if not NAME.fullmatch(name):
            raise RecipeError(path, "a variable is named by letters, digits and underscores")
        if name in env or any(fnmatchcase(name.upper(), pattern) for pattern in DENIED):
            raise RecipeError(path, "is set by the agent, or not allowed in a recipe")
        checked(value, path)
    return {**env, **recipe_env}
