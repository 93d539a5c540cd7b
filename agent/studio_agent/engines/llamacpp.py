"""Driver of llama.cpp's server (b11434): recipe to `llama-server`.

It reads one GGUF file: `path:///…/model.gguf`, or `hf://OWNER/NAME` with an optional `:QUANT`. Tool calls and reasoning are
read with the model's own template, so `auto` needs nothing. One cache is shared by all slots: with args.max_num_seqs every
slot gets args.max_model_len of it, without it the slots share that many tokens.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.recipe_pb2 import EngineArgs, Recipe
from studio.v1.replica_pb2 import Failure, ReplicaFigures, StartProgress

from studio_agent.engines import canary, environ, failures, figures, flags, memory, parallel, phases
from studio_agent.engines.base import DrainFacts, HttpRequest, LaunchContext, LaunchSpec
from studio_agent.engines.errors import RecipeError
from studio_agent.engines.flags import ExtraFlags
from studio_agent.engines.llamacpp_failures import LLAMACPP_FAILURES
from studio_agent.engines.llamacpp_metrics import LLAMACPP_METRICS
from studio_agent.engines.llamacpp_phases import LLAMACPP_PHASES
from studio_agent.engines.model_facts import Task
from studio_agent.engines.parsers import AUTO
from studio_agent.engines.typed_args import local_path, refuse_others, translated

OWNED_FLAGS = (
    "model",
    "model-url",
    "docker-repo",
    "hf-repo",
    "hf-file",
    "hf-token",
    "offline",
    "alias",
    "host",
    "port",
    "reuse-port",
    "path",
    "api-prefix",
    "api-key",
    "api-key-file",
    "ssl-key-file",
    "ssl-cert-file",
    "metrics",
    "webui",
    "ui",
    # Files and commands of the host in reach of whoever asks.
    "tools",
    "tools-runtime",
    "agent",
    "mcp-servers-config",
    "mcp-servers-json",
    "webui-mcp-proxy",
    "ui-mcp-proxy",
    "media-path",
    "slot-save-path",
    "props",
    "log-file",
    "log-disable",
    "rpc",
    # It would serve other models than the recipe's.
    "models-dir",
    "models-preset",
    "models-autoload",
    # Devices are chosen by UUID, in the environment.
    "device",
)
VALUE_FLAGS = {"max_num_seqs": "parallel", "max_num_batched_tokens": "batch-size", "seed": "seed"}
TAKEN = (
    *VALUE_FLAGS, "max_model_len", "tensor_parallel", "pipeline_parallel", "kv_cache_dtype", "prefix_caching", "tool_parser",
    "reasoning_parser", "chat_template", "speculative",
)  # fmt: skip
ALWAYS = {"chunked_prefill": True, "trust_remote_code": False}
CACHE_TYPES = {each: each for each in ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")} | {
    "auto": "f16", "fp16": "f16", "float16": "f16", "bfloat16": "bf16", "fp8": "q8_0", "q8": "q8_0", "q4": "q4_0",
}  # fmt: skip
REASONING_FORMATS = {each: each for each in ("none", "deepseek", "deepseek-legacy")}
Typed = Iterator[tuple[str, tuple[str, Any]]]


class LlamacppDriver:
    """See the module."""

    name = "llamacpp"
    default_version = ""
    # 503 while the model loads.
    ready_path = "/health"
    drain = DrainFacts(finishes_requests=False, limit_seconds=0.0, tells_running=True)

    def launch_spec(self, recipe: Recipe, context: LaunchContext) -> LaunchSpec:
        """`llama-server --model FILE …`, listening on the given address alone, without its web page."""
        parallel.refuse_group(context.group, "llama.cpp")
        refuse_others(recipe.args, "llama.cpp", TAKEN, ALWAYS)
        argv = [*context.program, *_model(context.model_path)]
        argv += flags.plain_words("alias", _joined(context.model_names, "model_names"), "model_names", takes_value=True)
        argv += ["--host", context.host, "--port", str(context.port), "--metrics", "--no-webui"]
        typed = dict(_typed_flags(recipe, context))
        for flag, (path, value) in typed.items():
            argv += flags.plain_words(flag, value, path, takes_value=True)
        extra = ExtraFlags(OWNED_FLAGS, abbreviates=False, has_off_forms=True, joins=False, known=context.known_flags)
        argv += extra.words(recipe.extra_args, typed)
        env = environ.base(context) | {"LLAMA_CACHE": str(context.cache_dir / "llama.cpp")}
        return LaunchSpec(tuple(argv), environ.with_recipe(env, recipe.env))

    def progress(self, line: str) -> StartProgress | None:
        """By llama.cpp's phase table."""
        return phases.progress(line, LLAMACPP_PHASES)

    def classify(self, lines: Sequence[str], exit_code: int | None) -> Failure:
        """By llama.cpp's failure table."""
        return failures.classify(lines, exit_code, LLAMACPP_FAILURES)

    def canary(self, model_name: str, task: Task = Task.GENERATE) -> HttpRequest:
        """In OpenAI's form."""
        return canary.openai(model_name, task)

    def figures(self, metrics_text: str, at: Timestamp) -> ReplicaFigures:
        """By llama.cpp's metric names."""
        return figures.read(metrics_text, at, LLAMACPP_METRICS)


def _model(source: str) -> list[str]:
    if environ.is_local(source):
        if not source.endswith(".gguf"):
            raise RecipeError(
                "model.source", f"llama.cpp reads one GGUF file, not {source!r}", "Name the file: path:///…/model.gguf."
            )
        return [*flags.words("model", source, "model.source"), "--offline"]
    if not source or source.startswith("-"):
        raise RecipeError("model.source", f"llama.cpp needs a model, not {source!r}")
    return flags.words("hf-repo", source, "model.source")


def _joined(items: Sequence[str], path: str) -> str:
    """One word of several: it takes lists with commas."""
    for item in items:
        if "," in item:
            raise RecipeError(path, f"{item!r} has a comma, by which llama.cpp separates")
    return ",".join(items)


def _typed_flags(recipe: Recipe, context: LaunchContext) -> Typed:
    """Pairs of flag and (path in the recipe, value)."""
    args = recipe.args
    if args.max_model_len.WhichOneof("kind") == "value":
        yield "ctx-size", ("args.max_model_len", args.max_model_len.value * (args.max_num_seqs or 1))
    for field, value in args.ListFields():
        if field.name in VALUE_FLAGS:
            yield VALUE_FLAGS[field.name], (f"args.{field.name}", value)
    yield from _gpu_flags(args, context)
    if args.kv_cache_dtype:
        kind = translated("args.kv_cache_dtype", args.kv_cache_dtype, CACHE_TYPES)
        yield "cache-type-k", ("args.kv_cache_dtype", kind)
        yield "cache-type-v", ("args.kv_cache_dtype", kind)
    if args.HasField("prefix_caching"):
        yield "cache-prompt", ("args.prefix_caching", args.prefix_caching)
    yield from _chat_flags(args)
    if args.HasField("speculative"):
        yield from _speculative(MessageToDict(args.speculative))
    if recipe.lora:
        yield "lora", ("lora", _joined([local_path(each.source) for each in recipe.lora], "lora"))


def _chat_flags(args: EngineArgs) -> Typed:
    if args.tool_parser not in ("", AUTO):
        raise RecipeError(
            "args.tool_parser", "llama.cpp reads tool calls by the model's template", "Leave it out: auto."
        )
    if args.reasoning_parser not in ("", AUTO):
        form = translated("args.reasoning_parser", args.reasoning_parser, REASONING_FORMATS)
        yield "reasoning-format", ("args.reasoning_parser", form)
    if args.chat_template:
        flag = "chat-template-file" if args.chat_template.startswith("/") else "chat-template"
        yield flag, ("args.chat_template", args.chat_template)


def _gpu_flags(args: EngineArgs, context: LaunchContext) -> Typed:
    """Rows of each tensor over the GPUs, or whole layers (its own default); and what is to stay free of each."""
    gpus = len(context.gpu_uuids)
    wanted = args.tensor_parallel.value if args.tensor_parallel.WhichOneof("kind") == "value" else 0
    layers = args.pipeline_parallel or 0
    if wanted > 1 and layers > 1:
        raise RecipeError("args.pipeline_parallel", "llama.cpp shares a model by rows or by layers, not both")
    if gpus and max(wanted, layers) not in (0, 1, gpus):
        field = "tensor_parallel" if wanted > 1 else "pipeline_parallel"
        raise RecipeError(f"args.{field}", f"llama.cpp shares a model by all of its {gpus} GPUs, or by none")
    if max(wanted, layers) > 1:
        yield "split-mode", ("args.tensor_parallel", "row" if wanted > 1 else "layer")
    free = context.gpu_free_bytes or context.gpu_total_bytes
    if gpus and context.gpu_memory_bytes and free:
        margin = memory.left_free_mib(context.gpu_memory_bytes, free)
        yield "fit-target", ("resources.gpu.memory", margin)


def _speculative(said: dict[str, Any]) -> Typed:
    path = "args.speculative"
    for word in sorted(said.keys() - {"method", "model", "num_speculative_tokens"}):
        raise RecipeError(f"{path}.{word}", "has no equivalent in llama.cpp", "Use extra_args: spec-….")
    translated(f"{path}.method", str(said.get("method", "")), {"draft_model": ""})
    if not str(said.get("model", "")).endswith(".gguf"):
        raise RecipeError(f"{path}.model", "must be a GGUF file on the host")
    yield "spec-draft-model", (f"{path}.model", said["model"])
    if "num_speculative_tokens" in said:
        yield "spec-draft-n-max", (f"{path}.num_speculative_tokens", int(said["num_speculative_tokens"]))
