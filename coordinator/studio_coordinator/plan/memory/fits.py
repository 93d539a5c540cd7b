"""Every fitted constant of the estimate, in one place.

Fitted to 27 published runs of vLLM 0.19.0 on one H100-80GB (tests/data/vram_points.csv; TP 1 to 4, PP 1 to 4, 2 to 72 billion
parameters, all with 1024 sequences and 8192 tokens per batch). Other GPUs and versions use them too, with wider error bars.
`make bench-estimate` fits them anew without each model in turn and reports the error on the model left out.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fits:
    """GiB unless said otherwise."""

    # Copies of the residual stream that are alive in a forward pass.
    residual_copies: float = 3.5
    # cuBLAS work spaces and small buffers of the tensor allocator.
    workspace: float = 0.05
    # Process context before the engine looks at free memory.
    context_single: float = 0.51
    context_tensor: float = 1.54
    context_pipeline: float = 1.45
    # Growth outside the tensor allocator while profiling.
    buffers_single: float = 0.27
    buffers_tensor: float = 2.08
    # More for each doubling of the tensor-parallel ranks beyond two.
    buffers_doubling: float = 0.09
    buffers_pipeline: float = 0.07
    # CUDA graphs: one part, one for each layer, and a factor for routed experts.
    graphs_base: float = 0.40
    graphs_layer: float = 0.0135
    graphs_experts_factor: float = 1.5


FITS = Fits()
