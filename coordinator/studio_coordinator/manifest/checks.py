"""What must hold within one recipe or one deployment, beyond types: (path, message) for all that does not."""

import re
from collections.abc import Iterable, Iterator

from google.protobuf.duration_pb2 import Duration
from studio.v1.deployment_pb2 import DeploymentSpec
from studio.v1.host_pb2 import Host
from studio.v1.recipe_pb2 import DemoArgs, EngineArgs, EngineChoice, IntOrAuto, Recipe, Resources
from studio.v1.route_pb2 import Price, ProviderRoute, Tenant

from studio_coordinator.manifest.addresses import urls_in, why_inside
from studio_coordinator.manifest.environment import why_denied
from studio_coordinator.manifest.flag_classes import texts_of
from studio_coordinator.manifest.kinds import Item
from studio_coordinator.manifest.names import ALIAS, ALIAS_RULE, NAME, NAME_RULE, did_you_mean
from studio_coordinator.manifest.spanning import check_spanning

Problem = tuple[str, str]

DEMO = "demo"
ENGINES = ("vllm", "sglang", "tabbyapi", "llamacpp", DEMO)
SPECULATIVE_ENGINES = ("vllm", "sglang")
PRESETS = ("high-throughput", "low-latency", "long-context", "memory-efficient", "tool-calling")
MAX_REPLICAS = 1_000
MAX_WEIGHT = 1_000
POSITIVE_ARGS = {
    "pipeline_parallel",
    "data_parallel",
    "max_num_seqs",
    "max_num_batched_tokens",
    "kv_cache_memory_bytes",
}

SOURCE = re.compile(
    r"hf://[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(?::[A-Za-z0-9][\w.-]*)?|path://(?:/(?!\.\.?(?:/|$))[^/]+)+/?", re.ASCII
)
SOURCE_RULE = "hf://OWNER/NAME or path:///ABSOLUTE/DIRECTORY"
COMMIT = re.compile(r"[0-9a-f]{40}")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
FLAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def check(item: Item) -> Iterator[Problem]:
    """Problems of one document, whatever its kind."""
    match item:
        case Recipe():
            yield from check_recipe(item)
        case DeploymentSpec():
            yield from check_deployment(item)
        case Tenant():
            yield from _tenant(item)
        case Price():
            yield from _alias("model", item.model)
            for name in ("prompt_micros", "completion_micros", "cached_micros"):
                yield from _at_least(name, getattr(item, name), 0)
        case ProviderRoute():
            yield from _alias("model", item.model)
        case Host():
            yield from _name("name", item.name)


def check_recipe(recipe: Recipe) -> Iterator[Problem]:
    """Problems of one recipe."""
    yield from _name("name", recipe.name)
    yield from _engine(recipe.engine)
    yield from _model(recipe)
    yield from _args(recipe.args, recipe.engine.name)
    yield from _resources(recipe.resources, recipe.args)
    yield from check_spanning(recipe)
    yield from _choice("preset", recipe.preset, PRESETS)
    for key in recipe.extra_args:
        if not FLAG.fullmatch(key):
            yield (
                f"extra_args.{key}",
                "a flag is written without leading dashes: letters, digits, dots, dashes, underscores",
            )
    yield from _environment(recipe)
    yield from _urls(recipe)
    for index, adapter in enumerate(recipe.lora):
        yield from _name(f"lora[{index}].name", adapter.name)
        yield from _source(f"lora[{index}].source", adapter.source)
    yield from _repeated("lora[{}].name", [adapter.name for adapter in recipe.lora])


def check_deployment(spec: DeploymentSpec) -> Iterator[Problem]:
    """Problems of one deployment."""
    yield from _name("name", spec.name)
    for index, alias in enumerate(spec.aliases):
        if not ALIAS.fullmatch(alias):
            yield f"aliases[{index}]", f"{alias!r} is not an alias: {ALIAS_RULE}"
        if alias == spec.name:
            yield f"aliases[{index}]", f"{alias!r} is the deployment's own name"
    yield from _repeated("aliases[{}]", spec.aliases)
    yield from _name("recipe", spec.recipe)
    yield from _at_least("recipe_revision", spec.recipe_revision, 0)
    yield from _replicas(spec)
    yield from _choice("placement.spread", spec.placement.spread, ("host", "pack"))
    yield from _repeated("placement.hosts[{}]", spec.placement.hosts)
    yield from _repeated("placement.gpus[{}]", spec.placement.gpus)
    if spec.name and spec.name in spec.placement.anti_affinity:
        yield "placement.anti_affinity", "a deployment cannot avoid itself; use spread: host"
    yield from _idle(spec)
    yield from _rollout(spec)
    yield from _choice("via", spec.via, ("direct", "litellm"))
    yield from _choice("strategy", spec.strategy, ("least_work", "prefix_affinity", "round_robin"))
    yield from _repeated("fallbacks[{}]", spec.fallbacks)
    if spec.name and spec.name in spec.fallbacks:
        yield "fallbacks", "a deployment cannot answer instead of itself"


def _environment(recipe: Recipe) -> Iterator[Problem]:
    for path, names in (("env", recipe.env), ("secrets", recipe.secrets)):
        for name in names:
            if not VARIABLE.fullmatch(name):
                yield f"{path}.{name}", "not the name of an environment variable"
            elif why := why_denied(name):
                yield f"{path}.{name}", f"no recipe may set it: it {why}"
    for name, secret in recipe.secrets.items():
        yield from _name(f"secrets.{name}", secret)
        if name in recipe.env:
            yield f"secrets.{name}", "is given in env already"
    if recipe.model.token_secret:
        yield from _name("model.token_secret", recipe.model.token_secret)
        if not recipe.model.source.startswith("hf://"):
            yield "model.token_secret", "only a model of the hub needs a token"


def _urls(recipe: Recipe) -> Iterator[Problem]:
    """Everything a URL may stand in: none may point inside."""
    texts = [(f"env.{name}", value) for name, value in recipe.env.items()]
    texts += [(f"extra_args.{name}", text) for name, value in recipe.extra_args.items() for text in texts_of(value)]
    for path, text in texts:
        for url in urls_in(text):
            if why := why_inside(url):
                yield path, f"the URL {url} points inside: {why}"


def _engine(engine: EngineChoice) -> Iterator[Problem]:
    if not engine.name:
        yield "engine.name", f"missing; choose one of {', '.join(ENGINES)}"
    yield from _choice("engine.name", engine.name, ENGINES)
    if engine.version and engine.path:
        yield "engine.path", "give a version (the host installs it) or a path (it is there already), not both"
    if engine.path and not engine.path.startswith("/"):
        yield "engine.path", f"{engine.path!r} is not an absolute path"


def _model(recipe: Recipe) -> Iterator[Problem]:
    if recipe.model.source:
        yield from _source("model.source", recipe.model.source)
    elif recipe.engine.name != DEMO:
        yield "model.source", f"missing; expected {SOURCE_RULE}"
    for flag in recipe.extra_args:
        if flag.replace("_", "-").removeprefix("no-") == "trust-remote-code":
            yield f"extra_args.{flag}", "say it as args.trust_remote_code, which pins the model to a commit"
    if recipe.args.trust_remote_code and not COMMIT.fullmatch(recipe.model.revision):
        yield (
            "model.revision",
            "args.trust_remote_code runs the model's own code, so it must be pinned to a commit (40 hexadecimal digits)",
        )


def _args(args: EngineArgs, engine: str) -> Iterator[Problem]:
    for name in ("max_model_len", "tensor_parallel"):
        yield from _number_at_least(f"args.{name}", getattr(args, name), 1)
    for field, value in args.ListFields():
        if field.name in POSITIVE_ARGS:
            yield from _at_least(f"args.{field.name}", value, 1)
    if args.HasField("speculative") and engine not in SPECULATIVE_ENGINES:
        yield "args.speculative", f"only {' and '.join(SPECULATIVE_ENGINES)} can decode speculatively, not {engine}"
    if args.HasField("demo"):
        if engine != DEMO:
            yield "args.demo", f"these settings are for the demo engine, not for {engine or 'another'}"
        yield from _demo(args.demo)


def _demo(demo: DemoArgs) -> Iterator[Problem]:
    for field, value in demo.ListFields():
        # Exit codes may be anything the kernel takes; texts and switches have no range.
        if field.name == "exit_code":
            yield from _between("args.demo.exit_code", value, 0, 255)
        elif isinstance(value, int | float):
            yield from _at_least(f"args.demo.{field.name}", value, 0)
    yield from _choice("args.demo.health_lie", demo.health_lie, ("ok", "failing"))


def _resources(resources: Resources, args: EngineArgs) -> Iterator[Problem]:
    gpu = resources.gpu
    yield from _number_at_least("resources.gpu.count", gpu.count, 0)
    if gpu.memory.WhichOneof("kind") == "bytes":
        yield from _at_least("resources.gpu.memory", gpu.memory.bytes, 1)
    if resources.HasField("host_memory_bytes"):
        yield from _at_least("resources.host_memory_bytes", resources.host_memory_bytes, 1)
    if gpu.HasField("share"):
        yield from _share("resources.gpu.share", gpu.share)
        if gpu.count.value > 1:
            yield "resources.gpu.share", f"a share is a part of one GPU, but count is {gpu.count.value}"
    needed = max(args.tensor_parallel.value, 1) * max(args.pipeline_parallel, 1) * max(args.data_parallel, 1)
    if 0 < gpu.count.value < needed and resources.hosts <= 1:
        yield "resources.gpu.count", f"the parallel sizes in args need {needed} GPUs, but count is {gpu.count.value}"


def _replicas(spec: DeploymentSpec) -> Iterator[Problem]:
    replicas = spec.replicas
    for name in ("min", "max"):
        if replicas.HasField(name):
            yield from _between(f"replicas.{name}", getattr(replicas, name), 0, MAX_REPLICAS)
    if replicas.HasField("max") and replicas.max < (least := replicas.min if replicas.HasField("min") else 1):
        yield "replicas.max", f"{replicas.max} is less than min, which is {least}"


def _idle(spec: DeploymentSpec) -> Iterator[Problem]:
    sleep, stop = spec.idle.sleep_after, spec.idle.stop_after
    both = spec.idle.HasField("sleep_after") and spec.idle.HasField("stop_after")
    if both and _nanoseconds(stop) <= _nanoseconds(sleep):
        yield "idle.stop_after", "must be longer than sleep_after: an idle engine first sleeps and then stops"


def _rollout(spec: DeploymentSpec) -> Iterator[Problem]:
    rollout = spec.rollout
    if rollout.HasField("surge"):
        yield from _between("rollout.surge", rollout.surge, 0, MAX_REPLICAS)
        if rollout.surge == 0 and not rollout.drain_first_allowed:
            yield "rollout.surge", "with 0 nothing can be replaced, unless drain_first_allowed is true"
    if rollout.HasField("canary"):
        yield from _share("rollout.canary.share", rollout.canary.share)
        least = {"max_error_share": 0, "max_latency_ratio": 1, "min_requests": 0}
        for field, value in rollout.canary.ListFields():
            if field.name in least:
                yield from _at_least(f"rollout.canary.{field.name}", value, least[field.name])
    yield from _choice("rollout.on_failure", rollout.on_failure, ("rollback", "pause"))


def _name(path: str, name: str) -> Iterator[Problem]:
    if not name:
        yield path, "missing"
    elif not NAME.fullmatch(name):
        yield path, f"{name!r} is not a name: {NAME_RULE}"


def _tenant(tenant: Tenant) -> Iterator[Problem]:
    yield from _name("name", tenant.name)
    if tenant.HasField("weight") and not 0 < tenant.weight <= MAX_WEIGHT:
        yield "weight", f"{tenant.weight:g} is not above 0 and at most {MAX_WEIGHT:,}"
    for field, value in tenant.limits.ListFields():
        yield from _at_least(f"limits.{field.name}", value, 1)


def _alias(path: str, name: str) -> Iterator[Problem]:
    if not ALIAS.fullmatch(name):
        yield path, f"{name!r} is not a public model name: {ALIAS_RULE}"


def _source(path: str, source: str) -> Iterator[Problem]:
    if not SOURCE.fullmatch(source):
        yield path, f"expected {SOURCE_RULE}, got {source!r}"


def _choice(path: str, value: str, choices: Iterable[str]) -> Iterator[Problem]:
    if value and value not in choices:
        yield path, f"{value!r} is not known: choose one of {', '.join(choices)}{did_you_mean(value, choices)}"


def _share(path: str, share: float) -> Iterator[Problem]:
    if not 0 < share <= 1:
        yield path, f"{share:g} is not a share: more than 0 and at most 1 (100%)"


def _number_at_least(path: str, number: IntOrAuto, least: int) -> Iterator[Problem]:
    if number.WhichOneof("kind") == "value":
        yield from _at_least(path, number.value, least)


def _at_least(path: str, number: float, least: int) -> Iterator[Problem]:
    if number < least:
        yield path, f"{number:g} is less than {least}"


def _between(path: str, number: int, least: int, most: int) -> Iterator[Problem]:
    if not least <= number <= most:
        yield path, f"{number} is not between {least} and {most:,}"


def _repeated(path: str, names: Iterable[str]) -> Iterator[Problem]:
    """A problem for each name that came before; ``path`` takes its index."""
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            yield path.format(index), f"{name!r} is given twice"
        seen.add(name)


def _nanoseconds(duration: Duration) -> int:
    return duration.ToNanoseconds()
