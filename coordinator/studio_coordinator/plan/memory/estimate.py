"""The answer: what one GPU holds, and what that allows.

vLLM's budget is `--gpu-memory-utilization` x the whole GPU, from which it takes weights, the activation peak, buffers and,
since 0.20, graphs; the rest is KV. With pipeline stages every stage has its own sum and the tightest one decides, so the parts
reported are those of the tightest stage.
"""

from dataclasses import dataclass
from math import ceil

from studio_coordinator.plan.memory.activation import activation_peak
from studio_coordinator.plan.memory.calibration import Calibration
from studio_coordinator.plan.memory.errors import EstimateError, IndivisibleError
from studio_coordinator.plan.memory.facts import ModelFacts
from studio_coordinator.plan.memory.fits import FITS, Fits
from studio_coordinator.plan.memory.kv_pages import unknown_cache_type
from studio_coordinator.plan.memory.kv_pool import KvPool, kv_pool
from studio_coordinator.plan.memory.overhead import cuda_graphs, engine_buffers, process_context
from studio_coordinator.plan.memory.parallel import Stage, pipeline_stages, why_not
from studio_coordinator.plan.memory.parts import Part, Source, total_bytes, total_error_bytes
from studio_coordinator.plan.memory.settings import Gpu, Question, Settings, vllm_question
from studio_coordinator.plan.memory.weights import rank_weights

NOT_CALIBRATED = Calibration()


@dataclass(frozen=True)
class Estimate:
    """Memory of one GPU of the tightest pipeline stage, in bytes, and what it allows.

    `context` is outside the engine's budget, `graphs` too where `graphs_in_budget` is false. `kv.error_bytes` is the bar of
    the whole estimate: every error of another part moves the KV pool. `kv_token_bytes` is per token of `kv_tokens`, whose
    meaning for models that mix kinds of layers is the engine version's own (see `engine_rules`).
    """

    weights: Part
    activation: Part
    buffers: Part
    graphs: Part
    context: Part
    kv: Part
    graphs_in_budget: bool
    kv_token_bytes: float
    kv_tokens: int
    block_bytes: int
    block_tokens: int
    request_blocks: int
    max_concurrency: float
    max_model_len: int
    max_model_len_that_fits: int
    gpu_bytes: int
    unknown: tuple[str, ...]
    why_not: str = ""

    @property
    def parts(self) -> tuple[Part, ...]:
        """All parts, in the order in which a GPU fills."""
        return (self.context, self.weights, self.buffers, self.activation, self.graphs, self.kv)

    @property
    def total_bytes(self) -> int:
        """What the GPU holds at the peak."""
        return total_bytes(self.parts)

    @property
    def fits(self) -> bool:
        """Whether the engine starts and serves a request of full length."""
        return not self.why_not


def estimate_vllm(
    facts: ModelFacts, settings: Settings, gpu: Gpu, calibration: Calibration = NOT_CALIBRATED, fits: Fits = FITS
) -> Estimate:
    """Estimate for vLLM. Raises IndivisibleError when the model cannot be split as asked."""
    question = vllm_question(facts, settings, gpu, fits)
    reason = why_not(facts, settings.tensor_parallel, settings.pipeline_parallel)
    if reason:
        raise IndivisibleError(reason, "Choose another tensor or pipeline parallel size.")
    if question.on_cpu and settings.kv_cache_bytes is None:
        raise EstimateError("on a CPU the KV cache takes what it is given", "Say how much: --kv-cache-memory-bytes.")
    max_model_len = settings.max_model_len or facts.max_positions
    stages = pipeline_stages(facts.layers, settings.pipeline_parallel)
    held = [_StageMemory.of(facts, question, stage, max_model_len, calibration) for stage in stages]
    tightest = min(held, key=lambda stage: stage.pool.blocks(stage.kv.bytes))
    pool, blocks = tightest.pool, tightest.pool.blocks(tightest.kv.bytes)
    return Estimate(
        weights=tightest.weights,
        activation=tightest.activation,
        buffers=tightest.buffers,
        graphs=tightest.graphs,
        context=tightest.context,
        kv=tightest.kv,
        graphs_in_budget=question.rules.graphs_in_budget,
        kv_token_bytes=pool.token_bytes(max_model_len),
        kv_tokens=pool.tokens(blocks, max_model_len),
        block_bytes=pool.block_bytes,
        block_tokens=min((group.page.block_tokens for group in pool.groups), default=0),
        request_blocks=pool.request_blocks(max_model_len),
        max_concurrency=pool.concurrency(blocks, max_model_len),
        max_model_len=max_model_len,
        max_model_len_that_fits=pool.longest_request(blocks, max(max_model_len, facts.max_positions)),
        gpu_bytes=gpu.total_bytes,
        unknown=facts.unknown + tuple(filter(None, (unknown_cache_type(question),))),
        why_not=_refusal(question, tightest, pool, blocks, max_model_len),
    )


@dataclass(frozen=True)
class _StageMemory:
    weights: Part
    activation: Part
    buffers: Part
    graphs: Part
    context: Part
    kv: Part
    pool: KvPool

    @classmethod
    def of(
        cls, facts: ModelFacts, question: Question, stage: Stage, max_model_len: int, calibration: Calibration
    ) -> "_StageMemory":
        weights = calibration.correct(rank_weights(facts, question, stage))
        activation = calibration.correct(activation_peak(facts, question, stage))
        buffers = calibration.correct(engine_buffers(question))
        graphs = calibration.correct(cuda_graphs(facts, question, stage.last - stage.first))
        taken = [weights, activation, buffers] + ([graphs] if question.rules.graphs_in_budget else [])
        return cls(
            weights=weights,
            activation=activation,
            buffers=buffers,
            graphs=graphs,
            context=calibration.correct(process_context(question)),
            kv=_kv_budget(question, taken),
            pool=kv_pool(facts, question, stage, max_model_len),
        )


def _kv_budget(question: Question, taken: list[Part]) -> Part:
    given = question.settings.kv_cache_bytes
    if given is not None:
        return Part("kv", given, Source.GIVEN, "size given for the KV cache")
    budget = ceil(question.gpu.total_bytes * question.memory_fraction)
    left = budget - total_bytes(taken)
    sources = {part.source for part in taken}
    source = Source.BOUND if Source.BOUND in sources else Source.FITTED
    if sources <= {Source.MEASURED, Source.GIVEN}:
        source = Source.MEASURED
    note = f"what is left of {question.memory_fraction:g} of the GPU"
    return Part("kv", max(0, left), source, note, total_error_bytes(taken))


def _refusal(question: Question, tightest: _StageMemory, pool: KvPool, blocks: int, max_model_len: int) -> str:
    """Why the engine would not start with this; empty when it would."""
    if question.settings.kv_cache_bytes is not None and not question.on_cpu:
        held = total_bytes([tightest.weights, tightest.activation, tightest.buffers, tightest.context, tightest.kv])
        if held > question.gpu.total_bytes:
            return "weights, activations and the KV cache that was asked for exceed the GPU"
    elif not question.on_cpu:
        free = question.gpu.total_bytes - tightest.context.bytes
        if ceil(question.gpu.total_bytes * question.memory_fraction) > free:
            return f"{question.memory_fraction:g} of the GPU is more than is free after the process context"
        if tightest.kv.bytes == 0:
            return "weights and activations leave nothing for the KV cache"
    needed = pool.request_blocks(max_model_len)
    if needed > blocks:
        return f"one request of {max_model_len} tokens needs {needed} KV blocks, there are {blocks}"
    return ""
