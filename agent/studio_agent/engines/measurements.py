"""What an engine says in its log about the memory that its start took: the input of the next estimate.

With several ranks each writes its own line, and the largest counts: the tightest GPU decides.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from studio.v1.replica_pb2 import MeasuredMemory

GIB = 2**30


@dataclass(frozen=True)
class MemoryRule:
    """A line that matches ``pattern`` says so many GiB, or tokens, for each field of ``MeasuredMemory`` that is a group of it."""

    pattern: re.Pattern[str]


def rule(pattern: str) -> MemoryRule:
    """A row of a table."""
    return MemoryRule(re.compile(pattern))


# vLLM 0.19 to 0.33. What it calls consumed is weights and what lies outside of torch's allocator.
VLLM_MEMORY = (
    rule(r"Model loading took (?P<weights_bytes>[\d.]+) GiB"),
    rule(
        r"Actual usage is (?P<weights_bytes>[\d.]+) GiB for weight, (?P<activation_bytes>[\d.]+) GiB for peak activation, "
        r"(?P<context_bytes>[\d.]+) GiB for non-torch memory, and (?P<graphs_bytes>[\d.]+) GiB for CUDAGraph"
    ),
    rule(
        r"Actual usage is (?P<consumed>[\d.]+) GiB for consumed memory \(weights \+ non-torch\), "
        r"(?P<activation_bytes>[\d.]+) GiB for peak activation, and (?P<graphs_bytes>[\d.]+) GiB for CUDAGraph"
    ),
    rule(r"Graph capturing finished in \d+ secs, took (?P<graphs_bytes>[\d.]+) GiB"),
    rule(r"Available KV cache memory: (?P<kv_bytes>[\d.]+) GiB"),
    rule(r"KV cache size: (?P<kv_tokens>[\d,]+) tokens"),
)
# SGLang writes GB and means GiB.
SGLANG_MEMORY = (
    rule(r"Load weight end\..*mem usage=(?P<weights_bytes>[\d.]+) GB"),
    rule(r"Capture (?:\w+ )?cuda graph end\..*mem usage=(?P<graphs_bytes>[\d.]+) GB"),
    rule(r"max_total_num_tokens=(?P<kv_tokens>\d+)"),
)


def measured(lines: Sequence[str], rules: Sequence[MemoryRule]) -> MeasuredMemory:
    """What the lines of one start say; what none says stays absent."""
    found: dict[str, int] = {}
    for line in lines:
        for row in rules:
            match = row.pattern.search(line)
            for name, text in match.groupdict().items() if match is not None else ():
                number = float(text.replace(",", ""))
                found[name] = max(found.get(name, 0), int(number if name == "kv_tokens" else number * GIB))
    consumed = found.pop("consumed", 0)
    if consumed and "weights_bytes" in found:
        found["context_bytes"] = max(0, consumed - found["weights_bytes"])
    memory = MeasuredMemory()
    for name, value in found.items():
        setattr(memory, name, value)
    return memory
