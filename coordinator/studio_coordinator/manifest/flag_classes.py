"""Which of an engine's flags a recipe may carry on whose word. Recipes are untrusted input; this is data, and deny by default.

=========== ===================================================================================================
safe        anybody's who may apply a recipe: whatever no line below catches
admin only  it runs code that the recipe brings, reads files of the host, opens a listener or talks to strangers
=========== ===================================================================================================

What the agent alone sets (host, port, API key, …) is refused by the engine's driver from everybody. A flag that no engine has yet
is caught by the words in its name, and so are the keys inside a flag's value, be it a mapping or the same as a text in JSON.
Parsers take the beginning of a flag for the flag, so the beginning of an unsafe one is unsafe.
"""

import json
import re
from collections.abc import Iterator
from enum import Enum, auto
from fnmatch import fnmatchcase
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from studio.v1.recipe_pb2 import EngineArgs, Recipe

from studio_coordinator.manifest.environment import why_unknown

RUNS_CODE = "runs code that comes with the model or the recipe"
READS_FILES = "reads files of the host"
TALKS = "opens a listener, or talks to other machines"
LOOSENS = "loosens what the engine checks"
TELLS = "writes prompts or internals where others may read them"


def _words(text: str, why: str) -> dict[str, str]:
    return dict.fromkeys(text.split(), why)


# Names without leading dashes, `no-`, `enable-` and `disable-`; patterns as of shells.
ADMIN_ONLY = {
    "trust-remote-code": RUNS_CODE,
    "code-revision": RUNS_CODE,
    "tokenizer-revision": RUNS_CODE,
    "*plugin*": RUNS_CODE,
    "tool-parser-plugin": RUNS_CODE,
    "reasoning-parser-plugin": RUNS_CODE,
    "io-processor-plugin": RUNS_CODE,
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
    "download-dir": READS_FILES,
    "ssl-keyfile": READS_FILES,
    "torch-profiler-dir": TELLS,
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
    **_words(
        "plugin plugins module modules package packages cls class import loader script exec command pickle hook hooks callback"
        " callbacks factory",
        RUNS_CODE,
    ),
    **_words("path paths dir dirs directory file files folder mount config disk", READS_FILES),
    **_words(
        "host hosts port ports url urls uri addr address endpoint endpoints server servers proxy ip webhook", TALKS
    ),
    **_words("ssl tls cert key token password secret auth", LOOSENS),
    **_words("profile profiler profiling trace traces debug dump log logging", TELLS),
}
# Looked at, and harmless although a word above is in their names, or an unsafe flag begins with them.
SAFE = frozenset(
    {
        "reasoning-parser",
        "tokenizer",
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


# A path that begins a text, or one of its parts: `adapter=/srv/x`, `a.gguf,/etc/x`; not the slashes of `hf://`.
ROOTED = re.compile(r"(?:^|[=,;:])(?:/(?!/)|~|file:)")
PARTS = re.compile(r"[/=,;:]")


class Said(Enum):
    """What a text in a flag's value is."""

    KEY = auto()
    VALUE = auto()


def admin_only(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """(path, why) for everything in ``recipe`` that only an administrator of the whole fleet may put there."""
    if recipe.engine.path:
        yield "engine.path", "runs a program of the host"
    yield from _in_args(recipe.args)
    for name, value in sorted(recipe.extra_args.items()):
        if why := why_admin_only(name) or _why_inside(value):
            yield f"extra_args.{name}", why
    for name, text in sorted(recipe.env.items()):
        if why := why_unknown(name) or _why_text(text):
            yield f"env.{name}", why
    for name in sorted(recipe.secrets):
        if why := why_unknown(name):
            yield f"secrets.{name}", why


def _in_args(args: EngineArgs) -> Iterator[tuple[str, str]]:
    if args.trust_remote_code:
        yield "args.trust_remote_code", RUNS_CODE
    if args.load_format in PICKLED:
        yield "args.load_format", RUNS_CODE
    for name in ("chat_template", "tokenizer", "tool_parser", "reasoning_parser"):
        if why := _why_text(getattr(args, name)):
            yield f"args.{name}", why
    if why := _why_inside(args.speculative):
        yield "args.speculative", why


def why_admin_only(flag: str) -> str:
    """Why the flag, without leading dashes, is an administrator's; "" where it is safe."""
    # What follows a dot is a key inside the flag's value.
    name, *keys = flag.lower().replace("_", "-").split(".")
    return _why_named(name) or next((why for key in keys if (why := _why_key(key))), "")


def is_path(text: str) -> bool:
    """Whether ``text`` names a file or directory outside the model."""
    return ROOTED.search(text) is not None or ".." in PARTS.split(text)


def texts_of(value: Message) -> Iterator[str]:
    """Every text in ``value`` (a ``Value`` or ``Struct``), at whatever depth, that is not a key."""
    yield from (text for what, text in _said(MessageToDict(value)) if what is Said.VALUE)


def _why_named(name: str) -> str:
    subject = POLARITY.sub("", name)
    if name in SAFE or subject in SAFE:
        return ""
    for pattern, why in ADMIN_ONLY.items():
        if fnmatchcase(subject, pattern) or pattern.startswith(subject):
            return why
    return next((WORDS[word] for word in subject.split("-") if word in WORDS), "")


def _why_inside(value: Message) -> str:
    """Why what is inside a flag's value is an administrator's."""
    said = _said(MessageToDict(value))
    return next((why for what, text in said if (why := _why_text(text) if what is Said.VALUE else _why_key(text))), "")


def _why_text(text: str) -> str:
    return READS_FILES if is_path(text) else ""


def _why_key(key: str) -> str:
    """As for a flag, but for words that say little of a key (`eos_token_id`); nobody abbreviates one."""
    name = key.lower().replace("_", "-")
    for pattern, why in ADMIN_ONLY.items():
        if fnmatchcase(name, pattern):
            return why
    return next(
        (why for word in name.split("-") if (why := WORDS.get(word, "")) in (RUNS_CODE, READS_FILES, TALKS)), ""
    )


def _said(value: Any) -> Iterator[tuple[Said, str]]:
    match value:
        case str():
            yield Said.VALUE, value
            yield from _said(_in_json(value))
        case list():
            for item in value:
                yield from _said(item)
        case dict():
            for key, item in value.items():
                yield Said.KEY, key
                yield from _said(item)


def _in_json(text: str) -> Any:
    """What an engine would read of ``text`` where it expects JSON; None where it is none."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
