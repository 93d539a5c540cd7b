"""Driver of the demo engine, the stand-in that ships with the agent (`studio_agent.demo_engine`)."""

from collections.abc import Sequence

from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.recipe_pb2 import DemoArgs, LoraAdapter, Recipe
from studio.v1.replica_pb2 import Failure, ReplicaFigures, StartProgress

from studio_agent.engines import canary, environ, failures, figures, flags, phases
from studio_agent.engines.base import DrainFacts, HttpRequest, JoinSign, LaunchContext, LaunchSpec
from studio_agent.engines.flags import ExtraFlags
from studio_agent.engines.lora import takes_adapters
from studio_agent.engines.model_facts import Task
from studio_agent.engines.vllm_failures import VLLM_FAILURES
from studio_agent.engines.vllm_metrics import VLLM_METRICS
from studio_agent.engines.vllm_phases import VLLM_PHASES

MEMORY_DIR = "STUDIO_DEMO_GPU_MEMORY_DIR"
OWNED_FLAGS = ("model", "host", "port", "nnodes", "node-rank", "master-addr", "master-port")
LORA_FLAGS = ("enable-lora", "lora-modules")


class DemoDriver:
    """Speaks, logs and counts in vLLM's words, so it reads the log and the metrics with vLLM's tables.

    Arguments that only a real engine can follow (parallelism, data types, …) are accepted and mean nothing to it.
    """

    name = "demo"
    sleep_levels = 2
    default_version = ""
    ready_path = "/health"
    drain = DrainFacts(finishes_requests=True, limit_seconds=5.0, tells_running=True)
    joined = JoinSign(line=r"\brank \d+ in world size \d+ is assigned as ")

    def launch_spec(self, recipe: Recipe, context: LaunchContext) -> LaunchSpec:
        """One flag for each field of `DemoArgs` that is set."""
        args = recipe.args
        argv = [*context.program, *flags.words("model", context.model_names, "model_names")]
        argv += ["--host", context.host, "--port", str(context.port)]
        if (group := context.group) is not None:
            argv += ["--nnodes", str(group.size), "--node-rank", str(group.rank)]
            argv += ["--master-addr", group.leader_address, "--master-port", str(group.leader_port)]
        typed: dict[str, int] = {}
        if args.max_model_len.WhichOneof("kind") == "value":
            typed["max-model-len"] = args.max_model_len.value
        if args.HasField("max_num_seqs"):
            typed["max-num-seqs"] = args.max_num_seqs
        for flag, number in typed.items():
            argv += flags.words(flag, number, f"args.{flag}")
        if recipe.lora:
            names = [adapter.name for adapter in recipe.lora]
            argv += ["--enable-lora", *flags.words("lora-modules", names, "lora")]
        settings = _settings(args.demo)
        for flag, value in settings.items():
            # A switch that is off is left out: argparse has no `--no-` form for it.
            if value is not False:
                argv += flags.words(flag, value, f"args.demo.{flag.replace('-', '_')}")
        extra = ExtraFlags(OWNED_FLAGS, abbreviates=True, has_off_forms=False, known=context.known_flags)
        argv += extra.words(recipe.extra_args, [*typed, *settings, *(LORA_FLAGS if recipe.lora else ())])
        env = environ.base(context) | {MEMORY_DIR: str(context.cache_dir / "demo-gpu-memory")}
        return LaunchSpec(tuple(argv), environ.with_recipe(env, recipe.env))

    def progress(self, line: str) -> StartProgress | None:
        """As vLLM's."""
        return phases.progress(line, VLLM_PHASES)

    def classify(self, lines: Sequence[str], exit_code: int | None) -> Failure:
        """As vLLM's."""
        return failures.classify(lines, exit_code, VLLM_FAILURES)

    def canary(self, model_name: str, task: Task = Task.GENERATE) -> HttpRequest:
        """In OpenAI's form."""
        return canary.openai(model_name, task)

    def sleep(self, *, keep_weights: bool) -> Sequence[HttpRequest]:
        """As vLLM's."""
        return [HttpRequest("POST", f"/sleep?level={1 if keep_weights else 2}")]

    def wake(self, model_path: str, *, kept_weights: bool) -> Sequence[HttpRequest]:  # noqa: ARG002 - it has no weights
        """One request, whatever was kept."""
        return [HttpRequest("POST", "/wake_up")]

    def takes_lora(self, recipe: Recipe) -> bool:
        """Where it has adapters from the start, or `enable-lora`."""
        return takes_adapters(recipe)

    def load_lora(self, adapter: LoraAdapter, path: str) -> HttpRequest:
        """As vLLM's."""
        return HttpRequest("POST", "/v1/load_lora_adapter", {"lora_name": adapter.name, "lora_path": path})

    def unload_lora(self, name: str) -> HttpRequest:
        """As vLLM's."""
        return HttpRequest("POST", "/v1/unload_lora_adapter", {"lora_name": name})

    def figures(self, metrics_text: str, at: Timestamp) -> ReplicaFigures:
        """As vLLM's."""
        return figures.read(metrics_text, at, VLLM_METRICS)


def _settings(demo: DemoArgs) -> dict[str, bool | int | float | str]:
    """The fields that are set, under the names of their flags."""
    return {field.name.replace("_", "-"): value for field, value in demo.ListFields()}
