"""An estimate as text: a table for people, keys for scripts, and the parts with their sources."""

from studio_coordinator.plan.memory.estimate import Estimate
from studio_coordinator.plan.memory.facts import ModelFacts
from studio_coordinator.plan.memory.fitting import Share
from studio_coordinator.plan.memory.settings import Settings
from studio_coordinator.plan.memory.sizes import GIB


def json_answer(answer: Estimate) -> dict[str, float]:
    """The documented keys; sizes per GPU, of the tightest pipeline stage."""
    per_token = answer.kv_token_bytes
    return {
        "weights_gib": round(answer.weights.bytes / GIB, 4),
        "kv_bytes_per_token": int(per_token) if per_token == int(per_token) else round(per_token, 3),
        "activation_gib": round(answer.activation.bytes / GIB, 4),
        "graphs_gib": round(answer.graphs.bytes / GIB, 4),
        "context_gib": round((answer.context.bytes + answer.buffers.bytes) / GIB, 4),
        "kv_gib": round(answer.kv.bytes / GIB, 4),
        "kv_tokens": answer.kv_tokens,
        "max_concurrency": round(answer.max_concurrency, 3),
        "max_model_len_that_fits": answer.max_model_len_that_fits,
    }


def table(facts: ModelFacts, settings: Settings, answer: Estimate) -> str:
    """What an operator wants to know first."""
    gpus = settings.tensor_parallel * settings.pipeline_parallel
    rows = [
        ("model", f"{facts.architecture}, {facts.layers} layers, {facts.weights.bytes / GIB:.2f} GiB of weights"),
        ("engine", f"{settings.engine} {settings.version}, {gpus} GPU{'s' if gpus > 1 else ''} a replica"),
        ("on each GPU", f"{answer.total_bytes / GIB:.2f} of {answer.gpu_bytes / GIB:.2f} GiB"),
        ("weights", _gib(answer.weights.bytes)),
        ("activations", _gib(answer.activation.bytes)),
        ("graphs", _gib(answer.graphs.bytes)),
        ("context, NCCL", _gib(answer.context.bytes + answer.buffers.bytes)),
        ("KV cache", f"{_gib(answer.kv.bytes)} ± {answer.kv.error_bytes / GIB:.2f} GiB"),
        ("KV tokens", f"{answer.kv_tokens:,} of {answer.kv_token_bytes:,.0f} bytes"),
        ("concurrency", f"{answer.max_concurrency:.2f} requests of {answer.max_model_len:,} tokens"),
        ("longest context", f"{answer.max_model_len_that_fits:,} tokens"),
        ("starts", "yes" if answer.fits else f"no: {answer.why_not}"),
    ]
    return "".join(f"{name:<16} {value}\n" for name, value in rows)


def explain(answer: Estimate) -> str:
    """Every part with its source, its error and how it came about."""
    head = f"{'part':<12} {'GiB':>8} {'±':>6}  {'source':<9} how\n"
    lines = [
        f"{part.name:<12} {part.bytes / GIB:>8.3f} {part.error_bytes / GIB:>6.2f}  {part.source.value:<9} {part.note}\n"
        for part in answer.parts
    ]
    blocks = f"KV blocks: {answer.block_bytes:,} bytes each, {answer.request_blocks:,} for one request of full length\n"
    return head + "".join(lines) + blocks


def placing(settings: Settings, split: tuple[int, int] | None, most_gpus: int, share: Share | None) -> str:
    """The smallest split, and the flags for sharing the GPU."""
    if split is None:
        text = f"smallest split: none up to {most_gpus} GPUs\n"
    else:
        text = f"smallest split: tensor parallel {split[0]}, pipeline parallel {split[1]}\n"
    if share is None:
        return text
    if settings.engine == "sglang":
        flags = f"--mem-fraction-static {share.mem_fraction_static:g}"
    else:
        flags = f"--kv-cache-memory-bytes {share.kv_cache_bytes} (or --gpu-memory-utilization {share.gpu_memory_utilization:g})"
    return text + f"to share a GPU: {flags}; reserve {share.reserve_bytes / GIB:.2f} GiB\n"


def _gib(size: int) -> str:
    return f"{size / GIB:.2f} GiB"
