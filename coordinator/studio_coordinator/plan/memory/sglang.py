"""The same answer for SGLang, whose budget means something else.

`--mem-fraction-static` is a share of the memory *free at start* and covers weights and KV; activations and graphs live in the
rest. KV = free after loading - free before x (1 - fraction). Unset, the fraction follows from the batch sizes
(`memory_hook.py`, 0.5.23): reserved MiB = 512 + 1.5 x max(chunk, 2048) + ranks / 8 x 1024 + 2 x graph batch, at least 10 GiB
above 60 GiB. Tokens are not in blocks. A model with sliding windows keeps 0.8 window tokens for each full token; a hybrid gives
its states 0.9 of what the tokens get.
"""

from math import ceil

from studio_coordinator.plan.memory.activation import activation_peak
from studio_coordinator.plan.memory.calibration import Calibration
from studio_coordinator.plan.memory.engine_rules import EngineRules, parse_version
from studio_coordinator.plan.memory.errors import IndivisibleError
from studio_coordinator.plan.memory.estimate import NOT_CALIBRATED, Estimate
from studio_coordinator.plan.memory.facts import ModelFacts, StateCache
from studio_coordinator.plan.memory.kv_pages import Retention, cache_page, unknown_cache_type
from studio_coordinator.plan.memory.overhead import cuda_graphs, engine_buffers, process_context
from studio_coordinator.plan.memory.parallel import pipeline_stages, why_not
from studio_coordinator.plan.memory.parts import Part, Source, total_error_bytes
from studio_coordinator.plan.memory.settings import Gpu, Question, Settings
from studio_coordinator.plan.memory.sizes import GIB, MIB
from studio_coordinator.plan.memory.weights import rank_weights

WINDOW_TOKEN_RATIO = 0.8
STATE_MEMORY_RATIO = 0.9
# Smallest GPU of a class in GiB, its chunked prefill in tokens and its largest graph batch.
_SIZE_CLASSES = ((160, 16384, 512), (90, 8192, 256), (60, 8192, 256), (35, 4096, 32), (20, 4096, 48), (0, 2048, 8))
_RULES = EngineRules(
    0.0, graphs_in_budget=False, tokens_from_concurrency=False, batches_in_flight=False, hybrid_prefix_caching=False,
    large_gpu_batch=False, sampler_bytes=8, sampler_scratch_bytes=0, activation_error=0.5,
    note="lives beside the budget; vLLM's formula, not measured for SGLang",
)  # fmt: skip


def sglang_question(settings: Settings, gpu: Gpu) -> Question:
    """The question to SGLang with its defaults for this GPU's size."""
    chunk, graph_batch = next((chunk, batch) for size, chunk, batch in _SIZE_CLASSES if gpu.total_bytes >= size * GIB)
    tokens = settings.max_num_batched_tokens or chunk
    ranks = settings.tensor_parallel * settings.pipeline_parallel
    reserved = MIB * (512 + 1.5 * max(tokens, 2048) + ranks / 8 * 1024 + 2 * graph_batch)
    if gpu.total_bytes > 60 * GIB:
        reserved = max(reserved, 10 * GIB)
    fraction = round((gpu.total_bytes - reserved) / gpu.total_bytes, 3)
    return Question(
        settings=settings,
        gpu=gpu,
        release=parse_version(settings.version),
        rules=_RULES,
        max_num_seqs=settings.max_num_seqs or graph_batch,
        max_num_batched_tokens=tokens,
        block_tokens=1,
        memory_fraction=settings.memory_fraction if settings.memory_fraction is not None else fraction,
    )


def estimate_sglang(
    facts: ModelFacts, settings: Settings, gpu: Gpu, calibration: Calibration = NOT_CALIBRATED
) -> Estimate:
    """Estimate for SGLang. Raises IndivisibleError when the model cannot be split as asked."""
    question = sglang_question(settings, gpu)
    reason = why_not(facts, settings.tensor_parallel, settings.pipeline_parallel)
    if reason:
        raise IndivisibleError(reason, "Choose another tensor or pipeline parallel size.")
    stages = pipeline_stages(facts.layers, settings.pipeline_parallel)
    stage = max(stages, key=lambda one: rank_weights(facts, question, one).bytes)
    weights = calibration.correct(rank_weights(facts, question, stage))
    context = calibration.correct(process_context(question))
    activation = calibration.correct(activation_peak(facts, question, stage))
    buffers = calibration.correct(engine_buffers(question))
    graphs = calibration.correct(cuda_graphs(facts, question, stage.last - stage.first))
    free = gpu.total_bytes - context.bytes
    kv_bytes = max(0, int(free * question.memory_fraction) - weights.bytes)
    source, note = Source.FITTED, f"{question.memory_fraction:g} of the free memory, less weights"
    error = total_error_bytes([context, weights])
    if settings.kv_cache_bytes is not None:
        kv_bytes, source, note, error = settings.kv_cache_bytes, Source.GIVEN, "size given for the KV cache", 0
    token_bytes, token_share = _token_bytes(facts, question)
    tokens = int(kv_bytes * token_share / token_bytes) if token_bytes else 0
    max_model_len = settings.max_model_len or facts.max_positions
    beside = gpu.total_bytes - context.bytes - weights.bytes - kv_bytes
    refusal = ""
    if tokens < max_model_len:
        refusal = f"one request of {max_model_len} tokens does not fit in {tokens} KV tokens"
    if activation.bytes + graphs.bytes + buffers.bytes > beside:
        refusal = "activations and graphs exceed what is left beside weights and KV"
    return Estimate(
        weights=weights,
        activation=activation,
        buffers=buffers,
        graphs=graphs,
        context=context,
        kv=Part("kv", kv_bytes, source, note, error),
        graphs_in_budget=False,
        kv_token_bytes=token_bytes / token_share,
        kv_tokens=tokens,
        block_bytes=ceil(token_bytes),
        block_tokens=1,
        request_blocks=max_model_len,
        max_concurrency=tokens / max_model_len,
        max_model_len=max_model_len,
        max_model_len_that_fits=min(tokens, max(max_model_len, facts.max_positions)),
        gpu_bytes=gpu.total_bytes,
        unknown=facts.unknown + tuple(filter(None, (unknown_cache_type(question),))),
        why_not=refusal,
    )


def _token_bytes(facts: ModelFacts, question: Question) -> tuple[float, float]:
    """Bytes of one full token on the stage with most layers, and the share of the KV memory that tokens get."""
    first = pipeline_stages(facts.layers, question.settings.pipeline_parallel)[0]
    caches = [cache for layer in facts.caches[first.first : first.last] for cache in layer]
    full = window = 0
    for cache in caches:
        page = cache_page(cache, facts, question)
        if page.retention is Retention.ALL:
            full += page.bytes
        elif page.retention is not Retention.STATE:
            window += page.bytes
    share = 1 / (1 + STATE_MEMORY_RATIO) if any(isinstance(cache, StateCache) for cache in caches) else 1.0
    return (full + WINDOW_TOKEN_RATIO * window if full else window), share
