"""Driver of vLLM 0.33 (and of 0.32, which is what runs on a CPU): recipe to `vllm serve`.

Words used here: an *owned* flag is set by the agent alone; a *typed* one comes from the recipe's `args`; the rest comes from
`extra_args`. A boolean that the recipe leaves out is not passed at all, so the engine's default holds.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.assignment_pb2 import Group
from studio.v1.recipe_pb2 import EngineArgs, LoraAdapter, Recipe
from studio.v1.replica_pb2 import Failure, MeasuredMemory, ReplicaFigures, StartProgress

from studio_agent.engines import canary, environ, failures, figures, flags, measurements, memory, parallel, phases
from studio_agent.engines.base import DrainFacts, HttpRequest, JoinSign, LaunchContext, LaunchSpec
from studio_agent.engines.errors import RecipeError
from studio_agent.engines.flag_list import FlagList
from studio_agent.engines.flags import ExtraFlags
from studio_agent.engines.lora import takes_adapters
from studio_agent.engines.model_facts import ModelFacts, Task
from studio_agent.engines.parsers import parser_for
from studio_agent.engines.vllm_failures import VLLM_FAILURES
from studio_agent.engines.vllm_metrics import VLLM_METRICS
from studio_agent.engines.vllm_phases import VLLM_PHASES

GIB = 1024**3
DEFAULT_CPU_KV_GIB = 1
# An engine core that is told to stop gets this long before vLLM itself kills it; vLLM's own default on CUDA is no time at all.
WORKER_SHUTDOWN_SECONDS = "15"
# Pictures and sounds that a request names by URL would else come from wherever the host reaches, metadata services included.
# A name that cannot exist leaves those that a request brings along. A recipe may name domains, or lift it; both are an admin's.
MEDIA_DOMAINS, NO_DOMAIN, ANY_DOMAIN = "allowed-media-domains", "no-domain-is-allowed.invalid", "*"
MOST_ANSWERS = "VLLM_MAX_N_SEQUENCES"
OWNED_FLAGS = (
    "model",
    "model-tag",
    "served-model-name",
    "host",
    "port",
    "uds",
    "api-key",
    "root-path",
    "config",
    "headless",
    "nnodes",
    "node-rank",
    "master-addr",
    "master-port",
    "grpc",
    "grpc-port",
    "ssl-keyfile",
    "ssl-certfile",
    "ssl-ca-certs",
    "ssl-cert-reqs",
    "ssl-ciphers",
    "enable-ssl-refresh",
    "device-ids",
    "disable-access-log-for-endpoints",
)
# Fields of EngineArgs that are one flag: with a value, or a switch.
PLAIN_FLAGS = {
    "pipeline_parallel": "pipeline-parallel-size",
    "data_parallel": "data-parallel-size",
    "dtype": "dtype",
    "quantization": "quantization",
    "kv_cache_dtype": "kv-cache-dtype",
    "max_num_seqs": "max-num-seqs",
    "max_num_batched_tokens": "max-num-batched-tokens",
    "load_format": "load-format",
    "tokenizer": "tokenizer",
    "seed": "seed",
    "chat_template": "chat-template",
    "expert_parallel": "enable-expert-parallel",
    "prefix_caching": "enable-prefix-caching",
    "chunked_prefill": "enable-chunked-prefill",
    "enforce_eager": "enforce-eager",
    "trust_remote_code": "trust-remote-code",
    "sleep_mode": "enable-sleep-mode",
}


class VllmDriver:
    """See the module."""

    name = "vllm"
    sleep_levels = 2
    default_version = "0.33.0"
    ready_path = "/health"
    # Without --shutdown-timeout it aborts what runs, at once.
    drain = DrainFacts(finishes_requests=False, limit_seconds=0.0, tells_running=True)
    # Said by the worker processes when all of them have found each other.
    joined = JoinSign(line=r"\brank \d+ in world size \d+ is assigned as ")

    def launch_spec(self, recipe: Recipe, context: LaunchContext) -> LaunchSpec:
        """`vllm serve MODEL …`, listening on the given address alone; the other ranks of a group listen nowhere."""
        if not context.model_path or context.model_path.startswith("-"):
            raise RecipeError("model.source", f"vLLM needs a model, not {context.model_path!r}")
        if recipe.args.HasField("demo"):
            raise RecipeError("args.demo", "is for the demo engine only")
        if recipe.args.sleep_mode and not context.gpu_uuids:
            raise RecipeError("args.sleep_mode", "vLLM can sleep on a GPU only")
        argv = [*context.program, "serve", flags.checked(context.model_path, "model.source")]
        argv += flags.words("served-model-name", context.model_names, "model_names")
        if context.group is None or not context.group.rank:
            argv += ["--host", context.host, "--port", str(context.port)]
            argv += ["--disable-access-log-for-endpoints", "/health,/metrics"]
            argv += _media_words(recipe, context.known_flags)
        argv += _group_words(context.group)
        typed = dict(_typed_flags(recipe, context))
        for flag, (path, value) in typed.items():
            argv += flags.words(flag, value, path)
        extra = ExtraFlags(OWNED_FLAGS, abbreviates=True, has_off_forms=True, known=context.known_flags)
        given = {name: value for name, value in recipe.extra_args.items() if not _lifts_media_domains(name, value)}
        argv += extra.words(given, typed)
        return LaunchSpec(tuple(argv), environ.with_recipe(_environment(recipe, context), recipe.env))

    def progress(self, line: str) -> StartProgress | None:
        """By vLLM's phase table."""
        return phases.progress(line, VLLM_PHASES)

    def classify(self, lines: Sequence[str], exit_code: int | None) -> Failure:
        """By vLLM's failure table."""
        return failures.classify(lines, exit_code, VLLM_FAILURES)

    def measured(self, lines: Sequence[str]) -> MeasuredMemory:
        """By vLLM's memory summary."""
        return measurements.measured(lines, measurements.VLLM_MEMORY)

    def canary(self, model_name: str, task: Task = Task.GENERATE) -> HttpRequest:
        """In OpenAI's form."""
        return canary.openai(model_name, task)

    def sleep(self, *, keep_weights: bool) -> Sequence[HttpRequest]:
        """Level 1 keeps the weights in the host's memory, level 2 nothing."""
        return [HttpRequest("POST", f"/sleep?level={1 if keep_weights else 2}")]

    def wake(self, model_path: str, *, kept_weights: bool) -> Sequence[HttpRequest]:  # noqa: ARG002 - vLLM remembers its model
        """Without kept weights in four steps: in another order, or with one left out, the answers are gibberish."""
        if kept_weights:
            return [HttpRequest("POST", "/wake_up")]
        return [
            HttpRequest("POST", "/wake_up?tags=weights"),
            HttpRequest("POST", "/collective_rpc", {"method": "reload_weights"}),
            HttpRequest("POST", "/wake_up?tags=kv_cache"),
            HttpRequest("POST", "/reset_prefix_cache"),
        ]

    def takes_lora(self, recipe: Recipe) -> bool:
        """Where it has adapters from the start, or `enable-lora`."""
        return takes_adapters(recipe)

    def load_lora(self, adapter: LoraAdapter, path: str) -> HttpRequest:
        """Taken by an engine with a single API server."""
        return HttpRequest("POST", "/v1/load_lora_adapter", {"lora_name": adapter.name, "lora_path": path})

    def unload_lora(self, name: str) -> HttpRequest:
        """As loading."""
        return HttpRequest("POST", "/v1/unload_lora_adapter", {"lora_name": name})

    def figures(self, metrics_text: str, at: Timestamp) -> ReplicaFigures:
        """By vLLM's metric names."""
        return figures.read(metrics_text, at, VLLM_METRICS)


def _typed_flags(recipe: Recipe, context: LaunchContext) -> Iterator[tuple[str, tuple[str, Any]]]:
    """Pairs of flag and (path in the recipe, value)."""
    args = recipe.args
    if recipe.model.revision and not environ.is_local(context.model_path):
        yield "revision", ("model.revision", recipe.model.revision)
    if args.HasField("max_model_len"):
        length = args.max_model_len.value if args.max_model_len.WhichOneof("kind") == "value" else "auto"
        yield "max-model-len", ("args.max_model_len", length)
    if context.group is not None:
        parts = parallel.spread(args, len(context.gpu_uuids), context.group.size)
        yield "tensor-parallel-size", ("args.tensor_parallel", parts.tensor)
        yield "pipeline-parallel-size", ("args.pipeline_parallel", parts.pipeline)
    elif (tensor_parallel := parallel.tensor_parallel(args, len(context.gpu_uuids))) is not None:
        yield "tensor-parallel-size", ("args.tensor_parallel", tensor_parallel)
    yield from _memory_flags(args, context)
    for field, value in args.ListFields():
        if field.name in PLAIN_FLAGS:
            yield PLAIN_FLAGS[field.name], (f"args.{field.name}", value)
    yield from _feature_flags(recipe, context.model)


def _feature_flags(recipe: Recipe, facts: ModelFacts | None) -> Iterator[tuple[str, tuple[str, Any]]]:
    """What needs a switch and a value together."""
    args = recipe.args
    if args.tool_parser and (parser := parser_for("vllm", "tool", args.tool_parser, facts)):
        yield "enable-auto-tool-choice", ("args.tool_parser", True)
        yield "tool-call-parser", ("args.tool_parser", parser)
    if args.reasoning_parser and (parser := parser_for("vllm", "reasoning", args.reasoning_parser, facts)):
        yield "reasoning-parser", ("args.reasoning_parser", parser)
    if args.HasField("speculative"):
        yield "speculative-config", ("args.speculative", MessageToDict(args.speculative))
    if recipe.lora:
        yield "enable-lora", ("lora", True)
        yield "lora-modules", ("lora", [_lora_module(adapter) for adapter in recipe.lora])


def _group_words(group: Group | None) -> list[str]:
    """This host's part of a replica that spans several."""
    if group is None:
        return []
    words = ["--nnodes", str(group.size), "--node-rank", str(group.rank)]
    words += ["--master-addr", group.leader_address, "--master-port", str(group.leader_port)]
    return [*words, "--headless"] if group.rank else words


def _media_words(recipe: Recipe, known: FlagList | None) -> list[str]:
    """No domain, unless the recipe says which, or the program is too old to be told."""
    if MEDIA_DOMAINS in recipe.extra_args or (known is not None and known.get(MEDIA_DOMAINS) is None):
        return []
    return [f"--{MEDIA_DOMAINS}", NO_DOMAIN]


def _lifts_media_domains(name: str, value: Value) -> bool:
    return name == MEDIA_DOMAINS and value.string_value == ANY_DOMAIN


def _memory_flags(args: EngineArgs, context: LaunchContext) -> Iterator[tuple[str, tuple[str, Any]]]:
    """On a GPU: the size of the KV pool, and the share of the device that the assigned bytes are."""
    if not context.gpu_uuids:
        return
    if args.HasField("kv_cache_memory_bytes"):
        yield "kv-cache-memory-bytes", ("args.kv_cache_memory_bytes", args.kv_cache_memory_bytes)
    if context.gpu_memory_bytes and context.gpu_total_bytes:
        share = memory.share_of_total(context.gpu_memory_bytes, context.gpu_total_bytes)
        yield "gpu-memory-utilization", ("resources.gpu.memory", share)


def _environment(recipe: Recipe, context: LaunchContext) -> dict[str, str]:
    env = environ.base(context) | environ.hub(context)
    env |= {
        "VLLM_CACHE_ROOT": str(context.cache_dir / "vllm"),
        "VLLM_NO_USAGE_STATS": "1",
        # Pictures that a request names by URL: what a server answers must not send the engine on to an address inside.
        "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",
        "VLLM_WORKER_SHUTDOWN_TIMEOUT_SECONDS": WORKER_SHUTDOWN_SECONDS,
        "VLLM_PROCESS_NAME_PREFIX": context.process_label,
    }
    if MOST_ANSWERS not in recipe.env:
        # To one request; as OpenAI has it. vLLM's own default, 16384, lets one request fill the engine.
        env[MOST_ANSWERS] = "128"
    if context.group is not None:
        # Where the other ranks reach this one; without it vLLM takes the address of the route to the internet.
        env["VLLM_HOST_IP"] = context.host
    if not context.gpu_uuids:
        # On a CPU the KV pool is whole GiB of the host's memory; without a word from the recipe a small one, so that a
        # trial does not take the machine.
        asked = recipe.args.kv_cache_memory_bytes // GIB
        env["VLLM_CPU_KVCACHE_SPACE"] = str(max(asked, DEFAULT_CPU_KV_GIB))
    if recipe.args.sleep_mode:
        # Opens /sleep and /wake_up. They are unguarded, which is one reason why engines listen where only the agent and the
        # gateway reach them.
        env["VLLM_SERVER_DEV_MODE"] = "1"
    if takes_adapters(recipe):
        # Opens loading and unloading of adapters, as unguarded.
        env["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"
    return env


def _lora_module(adapter: LoraAdapter) -> dict[str, str]:
    """In vLLM's JSON form, which takes every name and path."""
    return {"name": adapter.name, "path": adapter.source.removeprefix("path://").removeprefix("hf://")}
