"""Memory of a process that is neither weights, activations nor KV: context, communication buffers, CUDA graphs.

The sizes are fitted (see `fits`). The process context exists before the engine looks at
free memory, so it is *outside* the budget that --gpu-memory-utilization sets: whoever shares a GPU has to leave room for it.
"""

from math import log2

from studio_coordinator.plan.memory.facts import ModelFacts
from studio_coordinator.plan.memory.parts import Part, Source
from studio_coordinator.plan.memory.settings import Question
from studio_coordinator.plan.memory.sizes import GIB

_LARGEST_GRAPH = 512
_GRAPHS_AT_LARGEST = 51


def process_context(question: Question) -> Part:
    """CUDA context and, with several GPUs, what NCCL takes when it starts; outside the engine's budget."""
    settings, fits = question.settings, question.fits
    if question.on_cpu:
        return Part("context", 0, Source.GIVEN, "no GPU")
    if settings.tensor_parallel * settings.pipeline_parallel == 1:
        return Part("context", int(fits.context_single * GIB), Source.FITTED, "CUDA context", int(0.15 * GIB))
    size = fits.context_tensor if settings.tensor_parallel > 1 else fits.context_pipeline
    return Part("context", int(size * GIB), Source.FITTED, "CUDA context and NCCL", int(0.4 * GIB))


def engine_buffers(question: Question) -> Part:
    """Growth outside the tensor allocator while the engine profiles: kernels, NCCL and all-reduce buffers."""
    settings, fits = question.settings, question.fits
    if question.on_cpu:
        return Part("buffers", 0, Source.GIVEN, "no GPU")
    if settings.tensor_parallel > 1:
        size = fits.buffers_tensor + fits.buffers_doubling * (log2(settings.tensor_parallel) - 1)
        return Part("buffers", int(size * GIB), Source.FITTED, "NCCL and all-reduce buffers", int(0.3 * GIB))
    if settings.pipeline_parallel > 1:
        return Part("buffers", int(fits.buffers_pipeline * GIB), Source.FITTED, "pipeline links", int(0.1 * GIB))
    return Part(
        "buffers", int(fits.buffers_single * GIB), Source.FITTED, "kernels loaded while profiling", int(0.21 * GIB)
    )


def cuda_graphs(facts: ModelFacts, question: Question, stage_layers: int) -> Part:
    """Captured CUDA graphs: a fixed part and a part per layer, more with routed experts.

    Scaled by the number of batch sizes that are captured, which follows from max_num_seqs.
    """
    if question.settings.enforce_eager or question.on_cpu:
        return Part("graphs", 0, Source.GIVEN, "no graphs are captured")
    captured = _captured_sizes(min(2 * question.max_num_seqs, _LARGEST_GRAPH)) / _GRAPHS_AT_LARGEST
    fits = question.fits
    experts_factor = fits.graphs_experts_factor if facts.experts is not None else 1.0
    size = (fits.graphs_base + fits.graphs_layer * stage_layers) * experts_factor * captured
    where = "inside the budget" if question.rules.graphs_in_budget else "outside the budget in this version"
    return Part("graphs", int(size * GIB), Source.FITTED, where, int(max(0.3, 0.35 * size) * GIB))


def _captured_sizes(largest: int) -> int:
    """1, 2, 4, then every 8 below 256, then every 16."""
    return 3 + len(range(8, min(largest + 1, 256), 8)) + len(range(256, largest + 1, 16))
