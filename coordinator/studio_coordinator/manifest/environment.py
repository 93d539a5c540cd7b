"""Environment variables that no recipe may set, whoever applies it: they choose which code is loaded, where traffic goes, which
devices are seen, or open routes that are meant for the agent. The agent refuses them again.
"""

from fnmatch import fnmatchcase

LOADS_CODE = "chooses which code is loaded"
REDIRECTS = "chooses where traffic goes"
DEVICES = "chooses devices, which the scheduler does"
OPENS = "opens routes or options past every check"

# Matched against the upper-case name.
DENIED = {
    "LD_*": LOADS_CODE,
    "PYTHON*": LOADS_CODE,
    "PATH": LOADS_CODE,
    "HOME": LOADS_CODE,
    "BASH_ENV": LOADS_CODE,
    "ENV": LOADS_CODE,
    "GCONV_PATH": LOADS_CODE,
    "CUDA_INJECTION*": LOADS_CODE,
    "NCCL_*PLUGIN*": LOADS_CODE,
    "VLLM_PLUGINS": LOADS_CODE,
    "SGLANG_*PLUGIN*": LOADS_CODE,
    "SGLANG_LOGGING_CONFIG_PATH": LOADS_CODE,
    "VLLM_LOGGING_CONFIG_PATH": LOADS_CODE,
    "VLLM_ALLOW_INSECURE_SERIALIZATION": LOADS_CODE,
    "TORCHINDUCTOR_CACHE_DIR": LOADS_CODE,
    "TRITON_CACHE_DIR": LOADS_CODE,
    "*_PROXY": REDIRECTS,
    "HF_ENDPOINT": REDIRECTS,
    "HF_HUB_OFFLINE": REDIRECTS,
    "TRANSFORMERS_OFFLINE": REDIRECTS,
    "VLLM_MEDIA_URL_ALLOW_REDIRECTS": REDIRECTS,
    "VLLM_USE_MODELSCOPE": REDIRECTS,
    "CUDA_VISIBLE_DEVICES": DEVICES,
    "HIP_VISIBLE_DEVICES": DEVICES,
    "ROCR_VISIBLE_DEVICES": DEVICES,
    "NVIDIA_*": DEVICES,
    "VLLM_SERVER_DEV_MODE": OPENS,
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": OPENS,
    "VLLM_API_KEY": OPENS,
    "TABBY_*": OPENS,
    "LLAMA_ARG_*": OPENS,
    "LLAMA_API_KEY": OPENS,
    "STUDIO_*": OPENS,
}


def why_denied(name: str) -> str:
    """Why no recipe may set the variable; "" where it may."""
    return next((why for pattern, why in DENIED.items() if fnmatchcase(name.upper(), pattern)), "")
