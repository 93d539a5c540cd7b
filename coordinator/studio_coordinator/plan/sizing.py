"""What a recipe takes on the GPUs of this fleet: the estimate, turned into what placement keeps free for it.

For a GPU of its own a replica needs what lets it start and serve one request of full length. On a shared GPU it also needs its
error bars, because there its neighbours pay for what was underestimated. Kinds of GPUs differ a little, since default batch
sizes follow the size of the GPU: the most that any kind on which it fits needs is asked of all. Where it fits on none, the least
is asked, so that the refusals say what is missing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeAlias

from studio.v1.host_pb2 import Host
from studio.v1.recipe_pb2 import Recipe

from studio_coordinator.plan.memory.answer import estimate
from studio_coordinator.plan.memory.calibration import Calibration
from studio_coordinator.plan.memory.draft import with_draft, with_prediction_layer
from studio_coordinator.plan.memory.engine_rules import TESTED_VERSION
from studio_coordinator.plan.memory.errors import EstimateError
from studio_coordinator.plan.memory.estimate import NOT_CALIBRATED, Estimate
from studio_coordinator.plan.memory.facts import ModelFacts
from studio_coordinator.plan.memory.fitting import Wanted, share_gpu
from studio_coordinator.plan.memory.parts import Source, total_bytes, total_error_bytes
from studio_coordinator.plan.memory.settings import Gpu, Settings
from studio_coordinator.plan.parallelism import parallelism
from studio_coordinator.plan.split import Split, hosts_for_count, smallest_splits

# A context that the engine may choose by itself is at least this long, or the replica is not worth starting.
SHORTEST_CONTEXT = 2048
# A download is checked and unpacked beside itself.
DISK_MARGIN = 1.1
# What an engine's process on each GPU takes of the host's memory while it loads: the interpreter, CUDA's host side, staging
# buffers. The weights pass through the page cache, which the kernel takes back; they count only where they stay: asleep. A bound
# by measure: the processes of vLLM 0.32 hold 0.6 GB each on a CPU.
LOADING_BYTES = 2 * 2**30
# The flag for the number of LoRA adapters at the same time, and its default; vLLM reserves them at a rank of 16.
USUAL_LORA_SLOTS = {"vllm": ("max-loras", 1), "sglang": ("max-loras-per-batch", 8)}
USUAL_LORA_RANK = 16
# Flags of the engines themselves that say what the typed arguments cannot.
FRACTION_FLAGS = ("gpu-memory-utilization", "mem-fraction-static")


# How many GPUs one replica has, and their model.
OnGpus: TypeAlias = tuple[int, str]


class GpuKind(NamedTuple):
    """GPUs that give the same estimate."""

    model: str
    memory_bytes: int


@dataclass(frozen=True)
class OnKind:
    """The answer for one kind of GPU."""

    estimate: Estimate
    # To be kept free on each GPU: everything that the engine will ever hold.
    reserve_bytes: int
    # The part of it that engines do not count into what they are told: the process context, and graphs of some versions.
    outside_bytes: int
    # Of one replica.
    gpus: int = 0


@dataclass(frozen=True)
class Sizing:
    """What is known of a recipe's needs; all zero where nothing is."""

    on: Mapping[GpuKind, OnKind] = field(default_factory=dict)
    # Of the smallest split that fits, where the recipe leaves it to the estimate; 0: as the recipe says.
    tensor_parallel: int = 0
    weight_bytes: int = 0
    # Of the host's memory, for weights that wait there while the engine sleeps.
    host_memory_bytes: int = 0
    # For weights that are not on the host yet.
    disk_bytes: int = 0
    # The model is not known yet, and will be soon: placing waits.
    being_read: bool = False
    # Why nothing is known, for people.
    note: str = ""
    # Over which it goes, where the recipe leaves it open and no single host holds it; 0: as the recipe says.
    hosts: int = 0
    # Splits over more GPUs, for kinds that are too small for the first.
    wider: "tuple[Wider, ...]" = ()

    @property
    def gpu_memory_bytes(self) -> int:
        """What a GPU must have for it; 0: unknown."""
        fitting = [on.reserve_bytes for kind, on in self.on.items() if _fits(kind, on)]
        return max(fitting) if fitting else min((on.reserve_bytes for on in self.on.values()), default=0)

    def at(self, kind: GpuKind, gpus: int) -> OnKind | None:
        """The answer for a replica on so many GPUs of this kind; None where none is known."""
        wider = next((split.on for split in self.wider if kind in split.on and split.gpus(kind) == gpus), {})
        return wider.get(kind, self.on.get(kind))


@dataclass(frozen=True)
class Wider:
    """A split over more GPUs than the first, with the answer for the kinds of GPUs that it is for."""

    tensor_parallel: int
    on: Mapping[GpuKind, OnKind]

    @property
    def gpu_memory_bytes(self) -> int:
        """What a GPU must have for it."""
        return max(on.reserve_bytes for on in self.on.values())

    def gpus(self, kind: GpuKind) -> int:
        """GPUs of one replica."""
        return self.on[kind].gpus


UNKNOWN = Sizing()


def gpu_kinds(hosts: Iterable[Host]) -> dict[GpuKind, int]:
    """Each kind of GPU in the fleet, with the most of them on one host."""
    most: dict[GpuKind, int] = {}
    for host in hosts:
        on_host: dict[GpuKind, int] = {}
        for gpu in host.gpus:
            kind = GpuKind(gpu.model, gpu.memory_bytes)
            on_host[kind] = on_host.get(kind, 0) + 1
        for kind, count in on_host.items():
            most[kind] = max(most.get(kind, 0), count)
    return most


def needs_facts(recipe: Recipe) -> bool:
    """Whether the model's facts would change where the recipe goes."""
    request = recipe.resources.gpu
    without_gpu = request.count.WhichOneof("kind") == "value" and request.count.value == 0
    return bool(recipe.engine.name in TESTED_VERSION and recipe.model.source) and not without_gpu


def size(
    recipe: Recipe,
    facts: ModelFacts,
    kinds: Mapping[GpuKind, int],
    calibrations: Mapping[OnGpus, Calibration],
) -> Sizing:
    """The needs of ``recipe`` on GPUs of these kinds; ``calibrations`` by number and model of GPUs."""

    def on(kind: GpuKind, ranks: int, hosts: int) -> OnKind:
        return _on(recipe, facts, kind, ranks, calibrations, hosts)

    splits = smallest_splits(recipe, facts, kinds, lambda kind, ranks, hosts: _fits(kind, on(kind, ranks, hosts)))
    first, *wider = splits or [Split(0, 0, ())]
    hosts = first.hosts or hosts_for_count(recipe, kinds)
    found: dict[GpuKind, OnKind] = {}
    note = ""
    for kind in kinds:
        try:
            found[kind] = on(kind, first.tensor_parallel, hosts)
        except EstimateError as error:
            note = error.message
    weights = facts.weights.bytes
    return Sizing(
        found,
        first.tensor_parallel,
        weights,
        host_memory_bytes=LOADING_BYTES * max(1, first.tensor_parallel) + (weights if recipe.args.sleep_mode else 0),
        disk_bytes=int(weights * DISK_MARGIN) if recipe.model.source.startswith("hf://") else 0,
        note=note,
        hosts=first.hosts,
        wider=tuple(
            Wider(split.tensor_parallel, {kind: on(kind, split.tensor_parallel, 0) for kind in split.kinds})
            for split in wider
        ),
    )


def settings_of(recipe: Recipe, facts: ModelFacts, tensor_parallel: int = 0, hosts: int = 0) -> Settings:
    """The recipe as a question to the estimate; ``tensor_parallel`` and ``hosts`` where the recipe leaves them open."""
    args = recipe.args
    context = args.max_model_len.value or None
    if args.max_model_len.WhichOneof("kind") == "auto":
        context = min(SHORTEST_CONTEXT, facts.max_positions)
    sizes = parallelism(recipe, tensor_parallel, hosts)
    return Settings(
        engine=recipe.engine.name,
        version=recipe.engine.version or TESTED_VERSION[recipe.engine.name],
        tensor_parallel=sizes.tensor,
        pipeline_parallel=sizes.pipeline,
        data_parallel=sizes.data,
        expert_parallel=args.expert_parallel,
        element_type="" if args.dtype == "auto" else args.dtype,
        quantization=args.quantization,
        kv_cache_type=args.kv_cache_dtype or "auto",
        max_model_len=context,
        max_num_seqs=args.max_num_seqs or None,
        max_num_batched_tokens=args.max_num_batched_tokens or None,
        memory_fraction=own_fraction(recipe),
        kv_cache_bytes=args.kv_cache_memory_bytes or None,
        enforce_eager=args.enforce_eager,
        prefix_caching=args.prefix_caching if args.HasField("prefix_caching") else True,
        speculative_tokens=int(args.speculative.fields["num_speculative_tokens"].number_value)
        if "num_speculative_tokens" in args.speculative.fields
        else 0,
        lora_slots=_lora_slots(recipe),
        lora_rank=_flag(recipe, "max-lora-rank") or USUAL_LORA_RANK,
    )


def _lora_slots(recipe: Recipe) -> int:
    """Adapters that the engine reserves room for; 0 where it takes none."""
    switched_on = "enable-lora" in recipe.extra_args and recipe.extra_args["enable-lora"].bool_value
    if not recipe.lora and not switched_on:
        return 0
    flag, usual = USUAL_LORA_SLOTS.get(recipe.engine.name, ("", 0))
    return _flag(recipe, flag) or usual


def _flag(recipe: Recipe, name: str) -> int:
    """A number among the engine's own flags; 0 where it is not there."""
    return int(recipe.extra_args[name].number_value) if name in recipe.extra_args else 0


def draft_source(recipe: Recipe) -> str:
    """The draft model of speculative decoding as a model's source; empty where the recipe names none."""
    fields = recipe.args.speculative.fields
    model = fields["model"].string_value if "model" in fields else ""
    if not model or "://" in model:
        return model
    return f"path://{model}" if model.startswith("/") else f"hf://{model}"


def with_speculation(recipe: Recipe, facts: ModelFacts, draft: ModelFacts | None) -> ModelFacts:
    """The model with what guesses its next tokens."""
    fields = recipe.args.speculative.fields
    if draft is not None:
        return with_draft(facts, draft)
    method = fields["method"].string_value if "method" in fields else ""
    return with_prediction_layer(facts) if method.endswith("mtp") else facts


def _gpus_of(settings: Settings) -> int:
    """GPUs of one replica with these settings."""
    return settings.tensor_parallel * settings.pipeline_parallel * settings.data_parallel


def own_fraction(recipe: Recipe) -> float | None:
    """The part of the GPU that the recipe gives the engine by a flag of its own; None: it does not."""
    given = [recipe.extra_args[flag].number_value for flag in FRACTION_FLAGS if flag in recipe.extra_args]
    return given[0] if given and given[0] > 0 else None


def _on(
    recipe: Recipe,
    facts: ModelFacts,
    kind: GpuKind,
    tensor_parallel: int,
    calibrations: Mapping[OnGpus, Calibration],
    hosts: int = 0,
) -> OnKind:
    gpu = Gpu(kind.memory_bytes, kind.model)
    settings = settings_of(recipe, facts, tensor_parallel, hosts)
    # What was measured on one GPU says nothing of two.
    calibration = calibrations.get((_gpus_of(settings), kind.model), NOT_CALIBRATED)
    found = estimate(facts, settings, gpu, calibration)
    outside = [found.context, *([] if found.graphs_in_budget else [found.graphs])]
    beside = total_bytes(outside) + total_error_bytes(outside)
    if not recipe.resources.gpu.HasField("share"):
        held = [part for part in found.parts if part is not found.kv]
        return OnKind(found, total_bytes(held) + _kv_bytes(found), beside, _gpus_of(settings))
    try:
        (shared,) = share_gpu([Wanted(found, _requests(found))], gpu)
    except EstimateError:
        return OnKind(found, found.total_bytes - found.kv.bytes + found.kv.error_bytes + _kv_bytes(found), beside)
    if recipe.engine.name == "vllm" and settings.memory_fraction is None:
        # With the part that it will be told, not with the most of a GPU that it would take by itself.
        part = max(shared.reserve_bytes, int(recipe.resources.gpu.share * gpu.total_bytes)) - beside
        told = replace(settings, memory_fraction=part / gpu.total_bytes)
        found = estimate(facts, told, gpu, calibration)
    return OnKind(found, shared.reserve_bytes, beside)


def _kv_bytes(found: Estimate) -> int:
    """KV cache for one request of full length, and the block that engines keep to themselves; or what the recipe gives."""
    return found.kv.bytes if found.kv.source is Source.GIVEN else found.block_bytes * (found.request_blocks + 1)


def _requests(found: Estimate) -> float:
    """Requests of full length that the KV cache is for."""
    return max(1.0, found.max_concurrency) if found.kv.source is Source.GIVEN else 1.0


def _fits(kind: GpuKind, on: OnKind) -> bool:
    return on.reserve_bytes <= kind.memory_bytes
