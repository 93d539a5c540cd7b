"""Driver of TabbyAPI (its main branch of August 2026, on exllamav3): recipe to `main.py --config FILE`.

TabbyAPI is a checkout, not a package: `engine.path` names the Python of the environment that its own `start.sh` makes in it,
CHECKOUT/venv/bin/python; any other program is taken as a wrapper that passes its arguments on. Everything a recipe says goes into
a configuration file, since arguments beside `--config` are ignored. `extra_args` are keys of that file, with dashes.

It serves one model and does not look at the name in a request, so aliases need nothing. A `tabby_config.yml` in the
model's folder wins over what is said here. It has no metrics.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import PurePath
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.recipe_pb2 import EngineArgs, Recipe
from studio.v1.replica_pb2 import Failure, ReplicaFigures, StartProgress

from studio_agent.engines import canary, environ, failures, flags, memory, parallel, phases
from studio_agent.engines.base import DrainFacts, HttpRequest, LaunchContext, LaunchSpec
from studio_agent.engines.errors import RecipeError
from studio_agent.engines.flag_list import Flag, FlagList, Takes
from studio_agent.engines.flags import ExtraFlags
from studio_agent.engines.model_facts import Task
from studio_agent.engines.parsers import TABLE, parser_for
from studio_agent.engines.tabbyapi_failures import TABBYAPI_FAILURES
from studio_agent.engines.tabbyapi_phases import TABBYAPI_PHASES
from studio_agent.engines.typed_args import refuse_others, translated

CONFIG = "config.yml"
# Log lines are wrapped at this width; the classifier wants them whole.
LOG_WIDTH = "500"
OWNED_KEYS = (
    "config",
    "host",
    "port",
    "disable-auth",
    "api-servers",
    "send-tracebacks",
    "model-dir",
    "model-name",
    "inline-model-loading",
    "use-dummy-models",
    "dummy-model-names",
    "draft-model-dir",
    "embedding-model-dir",
    "embedding-model-name",
    "lora-dir",
    "loras",
    # They write what people ask to disk, or send it away.
    "log-chat-completion-requests",
    "seqlog",
    "seqlog-server-url",
    "realtime-process-priority",
)
# Fields of EngineArgs that are one key of the section `model`.
PLAIN_KEYS = {
    "max_num_seqs": "max-batch-size",
    "max_num_batched_tokens": "chunk-size",
    "chat_template": "prompt-template",
}
TAKEN = (
    *PLAIN_KEYS, "max_model_len", "tensor_parallel", "kv_cache_dtype", "tool_parser", "reasoning_parser", "speculative",
)  # fmt: skip
ALWAYS = {"prefix_caching": True, "chunked_prefill": True, "enforce_eager": True, "trust_remote_code": False}
CACHE_MODES = {
    "auto": "FP16", "fp16": "FP16", "float16": "FP16", "fp8": "Q8", "q8": "Q8", "q6": "Q6", "q4": "Q4",
    "FP16": "FP16", "Q8": "Q8", "Q6": "Q6", "Q4": "Q4",
}  # fmt: skip
DRAFT_MODES = {"draft_model": "model", "mtp": "mtp", "ngram": "ngram"}


class TabbyapiDriver:
    """See the module."""

    name = "tabbyapi"
    default_version = ""
    ready_path = "/health"
    drain = DrainFacts(finishes_requests=True, limit_seconds=None, tells_running=False)

    def launch_spec(self, recipe: Recipe, context: LaunchContext) -> LaunchSpec:
        """`python main.py --config FILE`, and the file."""
        parallel.refuse_group(context.group, "TabbyAPI")
        if not environ.is_local(context.model_path):
            raise RecipeError(
                "model.source", "TabbyAPI reads a model from a directory of this host", "Pull it first, or use path://."
            )
        flags.checked(context.model_path, "model.source")
        if recipe.lora:
            raise RecipeError("lora", "TabbyAPI cannot load adapters since it runs on exllamav3")
        from studio_agent.engines.quoted_yaml import quoted_yaml  # noqa: PLC0415 - 1 MB that other engines do not need

        refuse_others(recipe.args, "TabbyAPI", TAKEN, ALWAYS)
        config_path = context.files_dir / CONFIG
        argv = [*_program(context.program), "--config", str(config_path)]
        env = environ.base(context) | environ.hub(context) | {"TABBY_LOG_CONSOLE_WIDTH": LOG_WIDTH}
        files = {config_path: quoted_yaml(_config(recipe, context))}
        return LaunchSpec(tuple(argv), environ.with_recipe(env, recipe.env), files)

    def progress(self, line: str) -> StartProgress | None:
        """By TabbyAPI's phase table."""
        return phases.progress(line, TABBYAPI_PHASES)

    def classify(self, lines: Sequence[str], exit_code: int | None) -> Failure:
        """By TabbyAPI's failure table."""
        return failures.classify(lines, exit_code, TABBYAPI_FAILURES)

    def canary(self, model_name: str, task: Task = Task.GENERATE) -> HttpRequest:
        """In OpenAI's form."""
        return canary.openai(model_name, task)

    def figures(self, metrics_text: str, at: Timestamp) -> ReplicaFigures:  # noqa: ARG002 - there is no such page
        """None are known."""
        return ReplicaFigures(at=at)


def _program(program: tuple[str, ...]) -> tuple[str, ...]:
    """A Python of the checkout's own is given the checkout's `main.py`."""
    match program, list(PurePath(program[0]).parents):
        case [python], [_bin, _venv, checkout, *_] if PurePath(python).name.startswith("python"):
            return (python, str(checkout / "main.py"))
        case _:
            return program


def _config(recipe: Recipe, context: LaunchContext) -> dict[str, dict[str, Any]]:
    """The whole file, by section."""
    model = PurePath(context.model_path)
    if context.model is not None and context.model.task is Task.EMBED:
        device = "cuda" if context.gpu_uuids else "cpu"
        sections: dict[str, dict[str, Any]] = {
            "embeddings": {
                "embedding_model_dir": str(model.parent),
                "embedding_model_name": model.name,
                "embeddings_device": device,
            }
        }
    else:
        named = {"use_dummy_models": True, "dummy_model_names": list(context.model_names)}
        sections = {"model": {"model_dir": str(model.parent), "model_name": model.name, **named}}
    # Only the gateway reaches it, and it brings no key.
    network = {"host": context.host, "port": context.port, "disable_auth": True, "api_servers": ["oai"]}
    sections["network"] = network
    typed = dict(_typed_keys(recipe, context))
    known = context.known_flags or BUNDLED_KEYS
    for key, value in typed.items():
        _put(sections, _flag(known, key), key, value)
    extra = ExtraFlags(OWNED_KEYS, abbreviates=False, has_off_forms=False, known=known)
    for key in sorted(recipe.extra_args):
        flag = extra.checked(key, typed)
        value = flags.whole_numbers(MessageToDict(recipe.extra_args[key]))
        _put(sections, flag or _flag(known, key), key, _fitting(flag, value, f"extra_args.{key}"))
    return sections


def _typed_keys(recipe: Recipe, context: LaunchContext) -> Iterator[tuple[str, Any]]:
    args, gpus = recipe.args, len(context.gpu_uuids)
    if args.HasField("max_model_len"):
        # -1: what the model itself says.
        yield "max-seq-len", args.max_model_len.value if args.max_model_len.WhichOneof("kind") == "value" else -1
    if args.kv_cache_dtype:
        yield "cache-mode", _cache_mode(args.kv_cache_dtype)
    for field, value in args.ListFields():
        if field.name in PLAIN_KEYS:
            yield (
                PLAIN_KEYS[field.name],
                flags.checked(value, f"args.{field.name}") if isinstance(value, str) else value,
            )
    yield from _gpu_keys(args, gpus, context.gpu_memory_bytes)
    if args.tool_parser and (parser := parser_for("tabbyapi", "tool", args.tool_parser, context.model)):
        yield "tool-format", parser
    if args.reasoning_parser and (tags := parser_for("tabbyapi", "reasoning", args.reasoning_parser, context.model)):
        if tags not in TABLE.tabbyapi_reasoning_tags:
            known = ", ".join(sorted(TABLE.tabbyapi_reasoning_tags))
            raise RecipeError("args.reasoning_parser", f"{tags!r} is not among: {known}")
        yield "reasoning", True
        start, end = TABLE.tabbyapi_reasoning_tags[tags]
        yield "reasoning-start-token", start
        yield "reasoning-end-token", end
    if args.HasField("speculative"):
        yield from _draft(MessageToDict(args.speculative))


def _cache_mode(said: str) -> str:
    """A word for both halves of the cache, or `K,V` in bits."""
    bits = said.replace(" ", "").split(",")
    if len(bits) == 2 and all(len(each) == 1 and each in "2345678" for each in bits):  # noqa: PLR2004 - K and V
        return ",".join(bits)
    return translated("args.kv_cache_dtype", said, CACHE_MODES)


def _gpu_keys(args: EngineArgs, gpus: int, memory_bytes: int) -> Iterator[tuple[str, Any]]:
    """It shares a model by all GPUs it sees, or layer by layer; on one GPU it takes no limit, its cache is of fixed size."""
    if args.HasField("tensor_parallel"):
        wanted = args.tensor_parallel.value or gpus
        if wanted not in (1, gpus):
            raise RecipeError("args.tensor_parallel", f"TabbyAPI shares a model by all of its {gpus} GPUs, or by none")
        yield "tensor-parallel", wanted > 1
    if gpus > 1 and memory_bytes:
        yield "gpu-split-auto", False
        yield "gpu-split", [memory.gib(memory_bytes)] * gpus


def _draft(said: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    path = "args.speculative"
    for word in sorted(said.keys() - {"method", "model", "num_speculative_tokens", "prompt_lookup_min"}):
        raise RecipeError(f"{path}.{word}", "has no equivalent in TabbyAPI")
    mode = translated(f"{path}.method", str(said.get("method", "")), DRAFT_MODES)
    yield "draft-mode", mode
    if mode == "model":
        draft = PurePath(flags.checked(str(said.get("model", "")), f"{path}.model"))
        if not draft.is_absolute():
            raise RecipeError(f"{path}.model", "must be the absolute directory of the draft model")
        yield "draft-model-dir", str(draft.parent)
        yield "draft-model-name", draft.name
    if "num_speculative_tokens" in said:
        yield "draft-num-tokens", int(said["num_speculative_tokens"])
    if "prompt_lookup_min" in said:
        yield "ngram-match-min", int(said["prompt_lookup_min"])


def _fitting(flag: Flag | None, value: Any, path: str) -> Any:
    """``value`` if it is of the key's kind."""
    if value is None:
        raise RecipeError(path, "null says nothing", "Leave the argument out to have the engine's default.")
    if isinstance(value, str):
        flags.checked(value, path)
    if flag is None:
        return value
    if (flag.takes is Takes.TOGGLE) != isinstance(value, bool):
        wanted = "true or false" if flag.takes is Takes.TOGGLE else "a value, not true or false"
        raise RecipeError(path, f"wants {wanted}")
    if (flag.takes is Takes.LIST) != isinstance(value, list):
        raise RecipeError(path, "wants a list" if flag.takes is Takes.LIST else "wants one value, not a list")
    return value


def _flag(known: FlagList, key: str) -> Flag:
    """The key in the installed program's list, or in the one that came with this release."""
    flag = known.get(key) or BUNDLED_KEYS.get(key)
    if flag is None:
        raise RecipeError(f"extra_args.{key}", "the installed engine has no such key")
    return flag


def _put(sections: dict[str, dict[str, Any]], flag: Flag, key: str, value: Any) -> None:
    sections.setdefault(flag.section, {})[key.replace("-", "_")] = value


def _bundled() -> FlagList:
    text = resources.files(__package__).joinpath("tabbyapi_keys.json").read_text(encoding="utf-8")
    return FlagList(
        Flag((key,), Takes(takes), section=section)
        for section, keys in json.loads(text).items()
        for key, takes in keys.items()
    )


BUNDLED_KEYS = _bundled()
