"""Environment variables of recipes, in three classes. An engine's environment begins empty, so nothing else is in it.

======= ==========================================================================================================
denied  no recipe may set it, whoever applies it: it chooses which code is loaded, where traffic goes, which devices
        are seen, or opens routes that are meant for the agent. The agent refuses these again
tuning  anybody's who may apply a recipe: it tunes a library that engines are made of, or is a credential
unknown an administrator's of the whole fleet: everything else
======= ==========================================================================================================
"""

import re
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
    "TRITON_CACHE_MANAGER": LOADS_CODE,
    "TRITON_PLUGIN*": LOADS_CODE,
    "HF_MODULES_CACHE": LOADS_CODE,
    "SGLANG_EXTERNAL_*": LOADS_CODE,
    "GGML_BACKEND_PATH": LOADS_CODE,
    "HSA_TOOLS_LIB": LOADS_CODE,
    "OPENSSL_CONF": LOADS_CODE,
    "GLIBC_TUNABLES": LOADS_CODE,
    "*_PROXY": REDIRECTS,
    "HF_ENDPOINT": REDIRECTS,
    "HF_HUB_OFFLINE": REDIRECTS,
    "TRANSFORMERS_OFFLINE": REDIRECTS,
    "VLLM_MEDIA_URL_ALLOW_REDIRECTS": REDIRECTS,
    "VLLM_USE_MODELSCOPE": REDIRECTS,
    "CUDA_VISIBLE_DEVICES": DEVICES,
    "HIP_VISIBLE_DEVICES": DEVICES,
    "ROCR_VISIBLE_DEVICES": DEVICES,
    "GPU_DEVICE_ORDINAL": DEVICES,
    "NVIDIA_*": DEVICES,
    "VLLM_SERVER_DEV_MODE": OPENS,
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": OPENS,
    "VLLM_API_KEY": OPENS,
    "TABBY_*": OPENS,
    "LLAMA_ARG_*": OPENS,
    "LLAMA_API_KEY": OPENS,
    "STUDIO_*": OPENS,
}

# Names of libraries that engines are made of, and what is harmless by itself.
TUNING = re.compile(
    r"(?:VLLM|SGLANG|SGL|LLAMA|GGML|EXLLAMA\w*|FLASHINFER|LMCACHE|HF|TRANSFORMERS|PYTORCH|TORCH|TORCHINDUCTOR|TRITON|CUDA|CUBLAS"
    r"|CUDNN|NCCL|RCCL|GLOO|HSA|HIP|OMP|KMP|MKL|OPENBLAS|LC)_\w+|TOKENIZERS_PARALLELISM|DO_NOT_TRACK|TZ"
)
# What programs of a model or of a recipe may need; a value that is no secret does no harm under such a name.
CREDENTIAL = re.compile(r"(?:\w+_)?(?:TOKEN|KEY|SECRET|PASSWORD|USERNAME)")
# Looked at, although a word below is in their names.
HARMLESS = frozenset({"PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF"})
# In such a name, of what else it might do.
SUSPICIOUS = re.compile(
    r"(?:^|_)(?:PATHS?|DIRS?|DIRECTORY|FILES?|FOLDER|HOME|ROOT|CACHE|LIBS?|LIBRARY|LIBRARIES|MODULES?|PACKAGES?|PLUGINS?|LOADER"
    r"|MANAGER|CONFIG|CONF|URLS?|URI|ENDPOINTS?|HOSTS?|PORTS?|IP|ADDR|ADDRESS|SERVERS?|PROXY|CERT|CERTS|CA|SSL|TLS|PROFILER|TRACE"
    r"|DUMP|EXTERNAL|EXTENSIONS?|COMMAND|CMD|COMPILER|CC|CXX|FLAGS|HOOKS?|INSECURE|UNSAFE|TRUST|REMOTE|REDIRECTS?|MEDIA)(?:_|$)"
)


def why_unknown(name: str) -> str:
    """Why the variable, which is not denied, is an administrator's; "" where it is anybody's."""
    upper = name.upper()
    if upper in HARMLESS or CREDENTIAL.fullmatch(upper):
        return ""
    if not TUNING.fullmatch(upper):
        return "is none of the variables that are known to tune an engine"
    return "may choose files, code or addresses, by its name" if SUSPICIOUS.search(upper) else ""


def why_denied(name: str) -> str:
    """Why no recipe may set the variable; "" where it may."""
    return next((why for pattern, why in DENIED.items() if fnmatchcase(name.upper(), pattern)), "")
