"""What changed between engine versions that moves memory, as a table.

vLLM, read in the released wheels (0.15 to 0.33; the first version that has each rule was found by bisection):

====== ==========================================================================================================
 0.17   the sampler's warm-up no longer sorts: 14 bytes per logit in place of about 38 (the latter is fitted)
 0.20   CUDA graphs are estimated and taken out of the budget; --gpu-memory-utilization defaults to 0.92 (was 0.90)
 0.22   FlashInfer samples by default where it is supported
 0.24   the logged "KV cache size" is max concurrency x max_model_len; before, blocks // groups x block size
 0.26   a sliding window is sized for every batch in flight (2 with async scheduling); hybrids cache prefixes (2 states)
 0.28   default batch is 16384 tokens on GPUs of 160 GiB and more (a version before it may have it already)
 0.30   the new model runner is the default for every model: penalties keep 4.125 bytes per logit, and 0.33's warm-up
        needs 6 bytes per logit, or 14 with FlashInfer
====== ==========================================================================================================
"""

from dataclasses import dataclass
from typing import TypeAlias

Version: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True)
class EngineRules:
    """How one version of an engine budgets memory."""

    utilization: float
    graphs_in_budget: bool
    tokens_from_concurrency: bool
    batches_in_flight: bool
    hybrid_prefix_caching: bool
    large_gpu_batch: bool
    # Bytes per logit (max_num_seqs x vocabulary) of the sampler's warm-up, without the logits in the model's own type.
    sampler_bytes: float
    # Bytes per compute unit and vocabulary entry: the scratch rows of the Triton top-k/top-p kernel.
    sampler_scratch_bytes: int
    # Relative error of the activation peak.
    activation_error: float
    note: str = ""


_VLLM: tuple[tuple[Version, EngineRules], ...] = (
    ((0, 30, 0), EngineRules(
        0.92, True, True, True, True, True, 16.125, 0, 0.35,
        "new model runner: from its source, not measured; between 8 and 16 bytes per logit",
    )),
    ((0, 28, 0), EngineRules(0.92, True, True, True, True, True, 12, 4, 0.25, "not measured")),
    ((0, 26, 0), EngineRules(0.92, True, True, True, True, False, 12, 4, 0.25, "not measured")),
    ((0, 24, 0), EngineRules(0.92, True, True, False, False, False, 12, 4, 0.25, "not measured")),
    ((0, 22, 0), EngineRules(0.92, True, False, False, False, False, 12, 4, 0.25, "not measured")),
    ((0, 20, 0), EngineRules(0.92, True, False, False, False, False, 12, 4, 0.15)),
    ((0, 17, 0), EngineRules(0.90, False, False, False, False, False, 12, 4, 0.05)),
    ((0, 0, 0), EngineRules(0.90, False, False, False, False, False, 36, 0, 0.25, "fitted to one published run")),
)  # fmt: skip

_NEWEST = (1_000_000, 0, 0)
TESTED_VERSION: dict[str, str] = {"vllm": "0.33.0", "sglang": "0.5.23"}


def parse_version(text: str) -> Version:
    """`0.19.0`, `0.19.1rc2` or `0.32.0+cpu` as three numbers; what is missing is 0. A name, `nightly`, is newer than all."""
    text = text.removeprefix("v")
    if not text[:1].isdecimal():
        return _NEWEST
    numbers = []
    for word in text.split("+", maxsplit=1)[0].split(".")[:3]:
        digits = ""
        for character in word:
            if not character.isdigit():
                break
            digits += character
        numbers.append(int(digits or 0))
    padded = [*numbers, 0, 0, 0]
    return padded[0], padded[1], padded[2]


def vllm_rules(version: Version) -> EngineRules:
    """The rules of the newest entry that is not newer than `version`."""
    return next(rules for since, rules in _VLLM if version >= since)
