"""Driver of SGLang 0.5.23: recipe to `sglang serve`.

It serves one name and does not look at the one in a request, so aliases need nothing. Its switches have no `--no-` form: off is
left out. Unlike vLLM it stays up while it drains, for as long as its requests take.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.recipe_pb2 import EngineArgs, LoraAdapter, Recipe
from studio.v1.replica_pb2 import Failure, MeasuredMemory, ReplicaFigures, StartProgress

from studio_agent.engines import canary, environ, failures, figures, flags, measurements, memory, parallel, phases
from studio_agent.engines.base import DrainFacts, HttpRequest, JoinSign, LaunchContext, LaunchSpec
from studio_agent.engines.errors import RecipeError
from studio_agent.engines.flags import ExtraFlags
from studio_agent.engines.lora import takes_adapters
from studio_agent.engines.model_facts import Task
from studio_agent.engines.sglang_failures import SGLANG_FAILURES
from studio_agent.engines.sglang_metrics import SGLANG_METRICS
from studio_agent.engines.sglang_phases import SGLANG_PHASES
from studio_agent.engines.typed_args import local_path, refuse_others, translated

OWNED_FLAGS = (
    "model-path",
    "model",
    "model-type",
    "served-model-name",
    "revision",
    "device",
    "host",
    "port",
    "fastapi-root-path",
    "enable-http-worker-reuseport",
    "grpc-mode",
    "grpc-port",
    "smg-grpc-mode",
    "smg-http-sidecar-port",
    "grpc-http-sidecar-port",
    "api-key",
    "admin-api-key",
    "ssl-keyfile",
    "ssl-certfile",
    "ssl-ca-certs",
    "ssl-keyfile-password",
    "enable-ssl-refresh",
    "config",
    "enable-metrics",
    "uvicorn-access-log-exclude-prefixes",
    "base-gpu-id",
    "gpu-id-step",
    "nnodes",
    "node-rank",
    "dist-init-addr",
    "nccl-init-addr",
    "gated-launch-port",
    "download-dir",
    # It would delete the model from under the next start.
    "delete-ckpt-after-loading",
    "custom-sigquit-handler",
)
# Fields of EngineArgs that are one flag with a value.
VALUE_FLAGS = {
    "pipeline_parallel": "pp-size",
    "data_parallel": "dp-size",
    "dtype": "dtype",
    "quantization": "quantization",
    "max_num_seqs": "max-running-requests",
    "load_format": "load-format",
    "tokenizer": "tokenizer-path",
    "seed": "random-seed",
    "tool_parser": "tool-call-parser",
    "reasoning_parser": "reasoning-parser",
    "chat_template": "chat-template",
}
# The recipe's words for cache types that SGLang calls otherwise; its own pass.
KV_TYPES = {"fp8": "fp8_e4m3"}
TAKEN = (
    *VALUE_FLAGS,
    "max_model_len", "tensor_parallel", "expert_parallel", "kv_cache_dtype", "max_num_batched_tokens", "prefix_caching",
    "enforce_eager", "trust_remote_code", "sleep_mode", "chunked_prefill", "speculative",
)  # fmt: skip
SPECULATIVE_METHODS = {
    "eagle": "EAGLE",
    "eagle3": "EAGLE3",
    "mtp": "NEXTN",
    "draft_model": "STANDALONE",
    "ngram": "NGRAM",
}
Typed = Iterator[tuple[str, tuple[str, Any]]]


class SglangDriver:
    """See the module."""

    name = "sglang"
    sleep_levels = 1
    default_version = "0.5.23"
    # `/health` of SGLang generates a token, and takes a second at least; `/ready` only looks.
    ready_path = "/ready"
    drain = DrainFacts(finishes_requests=True, limit_seconds=None, tells_running=True)
    # Ranks other than 0 have a server that answers this alone, and it begins when their schedulers are ready.
    joined = JoinSign(path="/health")

    def launch_spec(self, recipe: Recipe, context: LaunchContext) -> LaunchSpec:
        """`sglang serve --model-path MODEL …`, listening on the given address alone."""
        if not context.model_path or context.model_path.startswith("-"):
            raise RecipeError("model.source", f"SGLang needs a model, not {context.model_path!r}")
        refuse_others(recipe.args, "SGLang", TAKEN, {})
        argv = [*context.program, "serve", *flags.words("model-path", context.model_path, "model.source")]
        argv += flags.words("served-model-name", context.model_names[0], "model_names")
        argv += ["--host", context.host, "--port", str(context.port), "--enable-metrics"]
        argv += ["--uvicorn-access-log-exclude-prefixes", "/health", "/ready", "/metrics"]
        if (group := context.group) is not None:
            leader = f"[{group.leader_address}]" if ":" in group.leader_address else group.leader_address
            argv += ["--nnodes", str(group.size), "--node-rank", str(group.rank)]
            argv += ["--dist-init-addr", f"{leader}:{group.leader_port}"]
        if not context.gpu_uuids:
            argv += ["--device", "cpu"]
        typed = dict(_typed_flags(recipe, context))
        for flag, (path, value) in typed.items():
            # A switch that is off is left out.
            argv += [] if value is False else flags.words(flag, value, path)
        extra = ExtraFlags(OWNED_FLAGS, abbreviates=True, has_off_forms=False, known=context.known_flags)
        argv += extra.words(recipe.extra_args, typed)
        env = environ.base(context) | environ.hub(context)
        return LaunchSpec(tuple(argv), environ.with_recipe(env, recipe.env))

    def progress(self, line: str) -> StartProgress | None:
        """By SGLang's phase table."""
        return phases.progress(line, SGLANG_PHASES)

    def classify(self, lines: Sequence[str], exit_code: int | None) -> Failure:
        """By SGLang's failure table."""
        return failures.classify(lines, exit_code, SGLANG_FAILURES)

    def measured(self, lines: Sequence[str]) -> MeasuredMemory:
        """By what SGLang says at the end of each step."""
        return measurements.measured(lines, measurements.SGLANG_MEMORY)

    def canary(self, model_name: str, task: Task = Task.GENERATE) -> HttpRequest:
        """In OpenAI's form; a classifier answers under `/v1`."""
        request = canary.openai(model_name, task)
        return HttpRequest("POST", "/v1/classify", request.body) if task is Task.CLASSIFY else request

    def figures(self, metrics_text: str, at: Timestamp) -> ReplicaFigures:
        """By SGLang's metric names."""
        return figures.read(metrics_text, at, SGLANG_METRICS)

    def sleep(self, *, keep_weights: bool) -> Sequence[HttpRequest]:  # noqa: ARG002 - the copy in host memory is made at the start
        """The server must be idle. Weights and KV cache leave the GPU."""
        return [HttpRequest("POST", "/release_memory_occupation", {})]

    def wake(self, model_path: str, *, kept_weights: bool) -> Sequence[HttpRequest]:
        """Without kept weights, what is in their place after waking is garbage until they are read again."""
        requests = [HttpRequest("POST", "/resume_memory_occupation", {})]
        if not kept_weights:
            requests.append(HttpRequest("POST", "/update_weights_from_disk", {"model_path": model_path}))
        return requests

    def takes_lora(self, recipe: Recipe) -> bool:
        """Where it has adapters from the start, or `enable-lora`."""
        return takes_adapters(recipe)

    def load_lora(self, adapter: LoraAdapter, path: str) -> HttpRequest:
        """Taken by an engine that began with `--enable-lora`."""
        return HttpRequest("POST", "/load_lora_adapter", {"lora_name": adapter.name, "lora_path": path})

    def unload_lora(self, name: str) -> HttpRequest:
        """As loading."""
        return HttpRequest("POST", "/unload_lora_adapter", {"lora_name": name})


def _typed_flags(recipe: Recipe, context: LaunchContext) -> Typed:
    """Pairs of flag and (path in the recipe, value); False is a switch that the recipe wants off."""
    args = recipe.args
    if recipe.model.revision and not environ.is_local(context.model_path):
        yield "revision", ("model.revision", recipe.model.revision)
    if args.max_model_len.WhichOneof("kind") == "value":
        yield "context-length", ("args.max_model_len", args.max_model_len.value)
    if context.group is not None:
        parts = parallel.spread(args, len(context.gpu_uuids), context.group.size)
        layers: int | None = parts.tensor
        yield "pp-size", ("args.pipeline_parallel", parts.pipeline)
    else:
        layers = parallel.tensor_parallel(args, len(context.gpu_uuids))
    if layers is not None:
        yield "tp-size", ("args.tensor_parallel", layers)
    if args.expert_parallel:
        yield "ep-size", ("args.expert_parallel", layers or 1)
    yield from _memory_flags(args, context)
    for field, value in args.ListFields():
        if field.name in VALUE_FLAGS:
            yield VALUE_FLAGS[field.name], (f"args.{field.name}", value)
    yield from _switches(args)
    if args.HasField("speculative"):
        yield from _speculative(MessageToDict(args.speculative))
    if recipe.lora:
        yield "enable-lora", ("lora", True)
        adapters = [{"lora_name": each.name, "lora_path": local_path(each.source)} for each in recipe.lora]
        yield "lora-paths", ("lora", adapters)


def _memory_flags(args: EngineArgs, context: LaunchContext) -> Typed:
    """The share of free memory, where the assigned bytes are known and smaller than what is free."""
    if args.kv_cache_dtype:
        yield "kv-cache-dtype", ("args.kv_cache_dtype", KV_TYPES.get(args.kv_cache_dtype, args.kv_cache_dtype))
    free = context.gpu_free_bytes or context.gpu_total_bytes
    if not (context.gpu_uuids and context.gpu_memory_bytes and free):
        return
    allowed = min(context.gpu_memory_bytes, free)
    gpus, chunk = len(context.gpu_uuids), args.max_num_batched_tokens
    share = memory.static_share_of_free(allowed, free, gpus, context.gpu_total_bytes, chunk)
    if share <= 0:
        raise RecipeError(
            "resources.gpu.memory",
            f"{allowed / memory.GIB:.1f} GiB are less than SGLang needs beside weights and cache",
            "Give it more, or make its prefill chunks smaller: args.max_num_batched_tokens: 2048.",
        )
    yield "mem-fraction-static", ("resources.gpu.memory", share)


def _switches(args: EngineArgs) -> Typed:
    if args.HasField("chunked_prefill") and not args.chunked_prefill:
        if args.max_num_batched_tokens:
            raise RecipeError("args.max_num_batched_tokens", "is the size of a chunk, but args.chunked_prefill is off")
        yield "chunked-prefill-size", ("args.chunked_prefill", -1)
    elif args.max_num_batched_tokens:
        yield "chunked-prefill-size", ("args.max_num_batched_tokens", args.max_num_batched_tokens)
    if args.HasField("prefix_caching"):
        yield "disable-radix-cache", ("args.prefix_caching", not args.prefix_caching)
    if args.enforce_eager:
        yield "cuda-graph-backend-decode", ("args.enforce_eager", "disabled")
        yield "cuda-graph-backend-prefill", ("args.enforce_eager", "disabled")
    if args.HasField("trust_remote_code"):
        yield "trust-remote-code", ("args.trust_remote_code", args.trust_remote_code)
    if args.HasField("sleep_mode"):
        yield "enable-memory-saver", ("args.sleep_mode", args.sleep_mode)
        yield "enable-weights-cpu-backup", ("args.sleep_mode", args.sleep_mode)


def _speculative(said: dict[str, Any]) -> Typed:
    """The recipe has vLLM's words: `method`, `model`, `num_speculative_tokens`. N tokens are N steps, N + 1 verified."""
    path = "args.speculative"
    for word in sorted(said.keys() - {"method", "model", "num_speculative_tokens"}):
        raise RecipeError(f"{path}.{word}", "has no equivalent in SGLang", "Use extra_args: speculative-….")
    method = translated(f"{path}.method", str(said.get("method", "")), SPECULATIVE_METHODS)
    yield "speculative-algorithm", (f"{path}.method", method)
    if "model" in said:
        yield "speculative-draft-model-path", (f"{path}.model", said["model"])
    if "num_speculative_tokens" not in said:
        return
    tokens = int(said["num_speculative_tokens"])
    if method == "NGRAM":
        yield "speculative-num-draft-tokens", (f"{path}.num_speculative_tokens", tokens)
        return
    yield "speculative-num-steps", (f"{path}.num_speculative_tokens", tokens)
    yield "speculative-eagle-topk", (f"{path}.num_speculative_tokens", 1)
    yield "speculative-num-draft-tokens", (f"{path}.num_speculative_tokens", tokens + 1)
