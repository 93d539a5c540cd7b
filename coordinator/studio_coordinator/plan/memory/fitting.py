"""From an estimate to decisions: the smallest split that fits, and flags with which several engines share one GPU.

An engine that shares a GPU gets exactly the KV cache that its requests need. Its *reserve* is all that it will ever hold: its
budget, its process context, graphs that its version keeps outside the budget, and the error bar. When the reserves add up to no
more than the GPU, then whichever engine starts last still finds its whole budget free, which is what vLLM checks at start.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

from studio_coordinator.plan.memory.answer import estimate
from studio_coordinator.plan.memory.errors import EstimateError
from studio_coordinator.plan.memory.estimate import Estimate
from studio_coordinator.plan.memory.facts import ModelFacts
from studio_coordinator.plan.memory.parallel import splits
from studio_coordinator.plan.memory.parts import total_bytes, total_error_bytes
from studio_coordinator.plan.memory.settings import Gpu, Settings
from studio_coordinator.plan.memory.sizes import GIB


@dataclass(frozen=True)
class Share:
    """What to pass to an engine that shares its GPU, and what to reserve for it.

    For vLLM either `gpu_memory_utilization` or `kv_cache_bytes` (which overrides it); for SGLang `mem_fraction_static`, which is
    a share of what is free when it starts, so it holds for the place in the order of starts for which it was made.
    """

    reserve_bytes: int
    kv_cache_bytes: int
    gpu_memory_utilization: float
    mem_fraction_static: float


@dataclass(frozen=True)
class Wanted:
    """An engine on a shared GPU: its estimate, and for how many requests of full length its KV cache shall do."""

    estimate: Estimate
    requests: float = 1.0


def smallest_split(facts: ModelFacts, settings: Settings, gpu: Gpu, most_gpus: int) -> tuple[int, int] | None:
    """(tensor, pipeline) parallel sizes with the fewest GPUs on which the model serves `max_model_len`; None: none does."""
    for tensor_parallel, pipeline_parallel in splits(facts, most_gpus):
        candidate = replace(settings, tensor_parallel=tensor_parallel, pipeline_parallel=pipeline_parallel)
        if estimate(facts, candidate, gpu).fits:
            return tensor_parallel, pipeline_parallel
    return None


def share_gpu(wanted: Sequence[Wanted], gpu: Gpu) -> tuple[Share, ...]:
    """Flags for engines that start one after another on one GPU; raises EstimateError when they do not fit together."""
    shares: list[Share] = []
    taken = 0
    for want in wanted:
        share = _share(want, gpu, gpu.total_bytes - taken)
        shares.append(share)
        taken += share.reserve_bytes
    if taken > gpu.total_bytes:
        raise EstimateError(
            f"together they need {taken / GIB:.1f} GiB, the GPU has {gpu.total_bytes / GIB:.1f} GiB",
            "Ask for fewer concurrent requests, a shorter context or a smaller KV cache type.",
        )
    return tuple(shares)


def _share(want: Wanted, gpu: Gpu, free_bytes: int) -> Share:
    one = want.estimate
    # One block more than the requests need: vLLM keeps a block that it never hands out.
    kv_bytes = one.block_bytes * (ceil(want.requests * one.request_blocks) + 1)
    inside = [one.weights, one.activation, one.buffers] + ([one.graphs] if one.graphs_in_budget else [])
    outside = [one.context] + ([] if one.graphs_in_budget else [one.graphs])
    budget = total_bytes(inside) + total_error_bytes(inside) + kv_bytes
    utilization = ceil(budget / gpu.total_bytes * 10_000) / 10_000
    free_at_start = max(1, free_bytes - one.context.bytes)
    fraction = ceil((one.weights.bytes + one.weights.error_bytes + kv_bytes) / free_at_start * 1000) / 1000
    return Share(
        reserve_bytes=ceil(utilization * gpu.total_bytes) + total_bytes(outside) + total_error_bytes(outside),
        kv_cache_bytes=kv_bytes,
        gpu_memory_utilization=utilization,
        mem_fraction_static=fraction,
    )
