"""Which of an engine's flags a recipe may carry on whose word. Recipes are untrusted input; this is data, and deny by default.

=========== ===================================================================================================
safe        anybody's who may apply a recipe: whatever no line below catches
admin only  it runs code that the recipe brings, reads files of the host, opens a listener or talks to strangers
=========== ===================================================================================================

What the agent alone sets (host, port, API key, …) is refused by the engine's driver from everybody. A flag that no engine has yet
is caught by the words in its name.
"""

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

from google.protobuf.struct_pb2 import Value
from studio.v1.recipe_pb2 import Recipe

RUNS_CODE = "runs code that comes with the model or the recipe"
READS_FILES = "reads files of the host"
TALKS = "opens a listener, or talks to other machines"
LOOSENS = "loosens what the engine checks"
TELLS = "writes prompts or internals where others may read them"

# Names without leading dashes, `no-`, `enable-` and `disable-`; patterns as of shells.
ADMIN_ONLY = {
    "trust-remote-code": RUNS_CODE,
    "code-revision": RUNS_CODE,
    "tokenizer-revision": RUNS_CODE,
    "*plugin*": RUNS_CODE,
    "tool-server": TALKS,
    "middleware": RUNS_CODE,
    "logits-processor*": RUNS_CODE,
    "custom-logit-processor": RUNS_CODE,
    "worker-cls": RUNS_CODE,
    "worker-extension-cls": RUNS_CODE,
    "scheduler-cls": RUNS_CODE,
    "distributed-executor-backend": RUNS_CODE,
    "model-impl": RUNS_CODE,
    "load-format": RUNS_CODE,
    "model-loader-extra-config": RUNS_CODE,
    "hf-overrides": RUNS_CODE,
    "additional-config": RUNS_CODE,
    "compilation-config": RUNS_CODE,
    "json-model-override-args": RUNS_CODE,
    "kv-transfer-config": TALKS,
    "kv-events-config": TALKS,
    "ec-transfer-config": TALKS,
    "dist-init-addr": TALKS,
    "rpc": TALKS,
    "allowed-local-media-path": READS_FILES,
    "allowed-media-domains": LOOSENS,
    "allowed-origins": LOOSENS,
    "allowed-methods": LOOSENS,
    "allowed-headers": LOOSENS,
    "allow-credentials": LOOSENS,
    "trust-request-chat-template": LOOSENS,
    "runtime-lora-updating": RUNS_CODE,
    "slots": TELLS,
    "props": LOOSENS,
    "tools": RUNS_CODE,
    "agent": RUNS_CODE,
}
# Words that make any flag suspicious that nobody has looked at.
WORDS = {
    **dict.fromkeys(
        ("plugin", "module", "cls", "class", "import", "loader", "script", "exec", "command", "pickle"), RUNS_CODE
    ),
    **dict.fromkeys(("path", "dir", "directory", "file", "folder", "mount", "config", "disk"), READS_FILES),
    **dict.fromkeys(
        ("host", "port", "url", "uri", "addr", "address", "endpoint", "server", "proxy", "ip", "webhook"), TALKS
    ),
    **dict.fromkeys(("ssl", "tls", "cert", "key", "token", "password", "secret", "auth"), LOOSENS),
    **dict.fromkeys(("profile", "profiler", "profiling", "trace", "traces", "debug", "dump", "log", "logging"), TELLS),
}
# Looked at, and harmless although a word above is in their names.
SAFE = frozenset(
    {
        "max-log-len",
        "log-requests",
        "log-stats",
        "log-level",
        "disable-log-requests",
        "disable-log-stats",
        "enable-log-requests",
        "decode-log-interval",
        "max-num-batched-tokens",
        "structured-outputs-config",
        "speculative-config",
        "override-generation-config",
        "pooler-config",
        "mm-processor-cache-gb",
        "key-cache-dtype",
        "kv-cache-dtype",
    }
)
POLARITY = re.compile(r"^(?:no-)?(?:enable-|disable-|allow-(?=runtime))?")
# Formats that are read with pickle: a file of the model is a program.
PICKLED = frozenset({"pt", "npcache", "mistral", "bitsandbytes-pt"})


def admin_only(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """(path, why) for everything in ``recipe`` that only an administrator of the whole fleet may put there."""
    if recipe.engine.path:
        yield "engine.path", "runs a program of the host"
    if recipe.args.trust_remote_code:
        yield "args.trust_remote_code", RUNS_CODE
    if recipe.args.load_format in PICKLED:
        yield "args.load_format", RUNS_CODE
    for name in ("chat_template", "tokenizer", "tool_parser", "reasoning_parser"):
        if is_path(getattr(recipe.args, name)):
            yield f"args.{name}", READS_FILES
    for name, value in sorted(recipe.extra_args.items()):
        why = why_admin_only(name) or (READS_FILES if any(is_path(text) for text in texts_of(value)) else "")
        if why:
            yield f"extra_args.{name}", why


def why_admin_only(flag: str) -> str:
    """Why the flag, without leading dashes, is an administrator's; "" where it is safe."""
    name = flag.lower().replace("_", "-").replace(".", "-")
    subject = POLARITY.sub("", name)
    for pattern, why in ADMIN_ONLY.items():
        if fnmatchcase(subject, pattern):
            return why
    if name in SAFE or subject in SAFE:
        return ""
    return next((WORDS[word] for word in subject.split("-") if word in WORDS), "")


def is_path(text: str) -> bool:
    """Whether ``text`` names a file or directory outside the model."""
    return text.startswith(("/", "~", "file:")) or ".." in text.split("/")


def texts_of(value: Value) -> Iterator[str]:
    """Every text in ``value``, at whatever depth."""
    match value.WhichOneof("kind"):
        case "string_value":
            yield value.string_value
        case "list_value":
            for item in value.list_value.values:
                yield from texts_of(item)
        case "struct_value":
            for item in value.struct_value.fields.values():
                yield from texts_of(item)
