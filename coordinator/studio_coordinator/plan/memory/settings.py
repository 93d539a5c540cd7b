"""The question: which engine, with which settings, on which GPU. What is not set gets the engine's own default."""

from dataclasses import dataclass

from studio_coordinator.plan.memory.engine_rules import EngineRules, Version, parse_version, vllm_rules
from studio_coordinator.plan.memory.errors import UnknownEngineError
from studio_coordinator.plan.memory.facts import ModelFacts
from studio_coordinator.plan.memory.fits import FITS, Fits
from studio_coordinator.plan.memory.sizes import GIB

# Streaming multiprocessors of a GPU of unknown model; only the sampler's scratch depends on it.
_COMPUTE_UNITS = 132
# Tokens of a block: what the default attention back-ends of MLA and of all others ask for.
_BLOCK_TOKENS, _LATENT_BLOCK_TOKENS = 16, 64
_CPU_BLOCK_TOKENS, _CPU_LATENT_BLOCK_TOKENS = 128, 16


@dataclass(frozen=True)
class Gpu:
    """One device. `total_bytes` as the driver reports it; `name` only tells A100 and GB10 apart from their size class."""

    total_bytes: int
    name: str = ""
    compute_units: int = _COMPUTE_UNITS


@dataclass(frozen=True)
class Settings:
    """What an operator may set; None is the engine's default. Sizes are tokens unless the name says bytes."""

    engine: str = "vllm"
    version: str = "0.33.0"
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    data_parallel: int = 1
    expert_parallel: bool = False
    element_type: str = ""
    quantization: str = ""
    kv_cache_type: str = "auto"
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    memory_fraction: float | None = None
    kv_cache_bytes: int | None = None
    block_tokens: int | None = None
    enforce_eager: bool = False
    prefix_caching: bool = True
    speculative_tokens: int = 0
    # Adapters that are loaded at the same time, and the largest rank; 0: none are enabled.
    lora_slots: int = 0
    lora_rank: int = 16


@dataclass(frozen=True)
class Question:
    """Settings with every default filled in, for one GPU."""

    settings: Settings
    gpu: Gpu
    release: Version
    rules: EngineRules
    max_num_seqs: int
    max_num_batched_tokens: int
    block_tokens: int
    memory_fraction: float
    on_cpu: bool = False
    fits: Fits = FITS
    # What the checkpoint wants its KV cache kept in; empty: the type of the model.
    checkpoint_cache_type: str = ""

    @property
    def cache_type(self) -> str:
        """Type of the KV cache: the one that was asked for, else the checkpoint's."""
        asked = self.settings.kv_cache_type
        return asked if asked not in {"", "auto"} else self.checkpoint_cache_type or "auto"

    @property
    def tensor_parallel(self) -> int:
        """Ranks among which each layer is split."""
        return self.settings.tensor_parallel

    @property
    def in_flight_tokens(self) -> int:
        """Tokens scheduled and not yet settled, for which a sliding window keeps blocks."""
        batches = 1
        if self.rules.batches_in_flight:
            # One for each pipeline stage, and one more because the next is scheduled while one runs; not so on a CPU.
            batches = self.settings.pipeline_parallel + (0 if self.on_cpu else 1)
        return batches * self.max_num_batched_tokens


def vllm_question(facts: ModelFacts, settings: Settings, gpu: Gpu, fits: Fits = FITS) -> Question:
    """The question to vLLM, with the defaults of its version, of this GPU's size and of the CPU build."""
    if settings.engine != "vllm":
        raise UnknownEngineError(settings.engine)
    release = parse_version(settings.version)
    rules = vllm_rules(release)
    on_cpu = settings.version.endswith("+cpu")
    tokens, seqs = _default_batch(settings, gpu, rules, on_cpu=on_cpu)
    return Question(
        settings=settings,
        gpu=gpu,
        release=release,
        rules=rules,
        max_num_seqs=settings.max_num_seqs or seqs,
        max_num_batched_tokens=settings.max_num_batched_tokens or tokens,
        block_tokens=settings.block_tokens or _default_block(facts, on_cpu=on_cpu),
        memory_fraction=settings.memory_fraction if settings.memory_fraction is not None else rules.utilization,
        on_cpu=on_cpu,
        fits=fits,
        checkpoint_cache_type="" if on_cpu else facts.cache_type,
    )


def _default_block(facts: ModelFacts, *, on_cpu: bool) -> int:
    if on_cpu:
        return _CPU_LATENT_BLOCK_TOKENS if facts.latent else _CPU_BLOCK_TOKENS
    return _LATENT_BLOCK_TOKENS if facts.latent else _BLOCK_TOKENS


def _default_batch(settings: Settings, gpu: Gpu, rules: EngineRules, *, on_cpu: bool) -> tuple[int, int]:
    """(max_num_batched_tokens, max_num_seqs) of the OpenAI server: vLLM's `get_batch_defaults`."""
    if on_cpu:
        world = settings.tensor_parallel * settings.pipeline_parallel
        return 2048 * world, 128 * world
    name = gpu.name.lower()
    if rules.large_gpu_batch and gpu.total_bytes >= 160 * GIB:
        return 16384, 1024
    if gpu.total_bytes >= 70 * GIB and "a100" not in name and "gb10" not in name:
        return 8192, 1024
    return 2048, 256
