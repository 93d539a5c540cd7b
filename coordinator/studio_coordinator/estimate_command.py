"""`estimate`: what a model would take on a GPU, from a local directory, without a coordinator.

Prints a table, or with `-o json` exactly the keys that scripts read. What is unknown about the model, and why it would not
start, goes to the error stream in both cases.
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from studio_runtime.errors import StudioError

from studio_coordinator.estimate_text import explain, json_answer, placing, table
from studio_coordinator.model_facts.adapter import AdapterFacts, read_adapter
from studio_coordinator.model_facts.directory import read_directory
from studio_coordinator.plan.memory.answer import estimate
from studio_coordinator.plan.memory.draft import with_draft
from studio_coordinator.plan.memory.engine_rules import TESTED_VERSION
from studio_coordinator.plan.memory.errors import EstimateError
from studio_coordinator.plan.memory.fitting import Wanted, share_gpu, smallest_split
from studio_coordinator.plan.memory.settings import Gpu, Settings
from studio_coordinator.plan.memory.sizes import GIB

_UNITS = {"": 1, "b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": GIB, "k": 1000, "m": 10**6, "g": 10**9, "tib": 1 << 40}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags, with the engines' own names where there are any."""
    parser.add_argument(
        "--model", type=Path, required=True, metavar="DIR", help="directory with config.json, or a .gguf file"
    )
    parser.add_argument(
        "--weights-bytes", type=quantity, default=0, help="size of the weights, when they are not in DIR"
    )
    parser.add_argument(
        "--gpu-memory-gib", type=gibibytes, required=True, help="memory of one GPU as its driver reports it"
    )
    parser.add_argument("--gpu-name", default="", help="name of the GPU; it decides default batch sizes (A100, GB10)")
    parser.add_argument("--engine", default="vllm", metavar="NAME[==VERSION]", help="vllm or sglang")
    parser.add_argument("--tp", "--tensor-parallel-size", type=number, default=1)
    parser.add_argument("--pp", "--pipeline-parallel-size", type=number, default=1)
    parser.add_argument("--dp", "--data-parallel-size", type=number, default=1)
    parser.add_argument("--enable-expert-parallel", action="store_true")
    parser.add_argument("--dtype", default="", help="computing type, when it is not the model's own")
    parser.add_argument("--quantization", default="", help="quantize an unquantized model while loading, e.g. fp8")
    parser.add_argument("--max-model-len", type=quantity, default=None)
    share = parser.add_mutually_exclusive_group()
    share.add_argument("--gpu-memory-utilization", "--mem-fraction-static", type=part, default=None)
    share.add_argument("--kv-cache-memory-bytes", type=quantity, default=None, help="size of the KV cache per GPU")
    parser.add_argument("--kv-cache-dtype", default="auto")
    parser.add_argument("--block-size", type=int, default=None)
    parser.add_argument("--max-num-seqs", type=int, default=None)
    parser.add_argument("--max-num-batched-tokens", type=quantity, default=None)
    parser.add_argument("--enforce-eager", action="store_true")
    parser.add_argument("--no-enable-prefix-caching", action="store_true")
    parser.add_argument("--num-speculative-tokens", type=int, default=0)
    parser.add_argument(
        "--draft-model", type=Path, default=None, metavar="DIR", help="the model that guesses its tokens"
    )
    parser.add_argument(
        "--max-loras", type=quantity, default=0, help="LoRA adapters at the same time; 0: none are enabled"
    )
    parser.add_argument(
        "--lora",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="an adapter that will be served, for its rank",
    )
    parser.add_argument("--max-lora-rank", type=int, default=16)
    parser.add_argument(
        "--requests", type=float, default=1.0, help="full-length requests for the flags of a shared GPU"
    )
    parser.add_argument("--most-gpus", type=int, default=8, help="largest split to try when looking for the smallest")
    parser.add_argument("--explain", action="store_true", help="show every part with its source and error")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")


def quantity(text: str) -> int:
    """`8192`, `32k`, `15GiB`; k, m and g are thousands, KiB, MiB and GiB are powers of 1024."""
    match = re.fullmatch(r"\s*([0-9.]+)\s*([A-Za-z]*)\s*", text)
    if match is None or match.group(2).lower() not in _UNITS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number such as 8192, 32k or 15GiB")
    return int(float(match.group(1)) * _UNITS[match.group(2).lower()])


def number(text: str) -> int:
    """A whole number from 1."""
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def gibibytes(text: str) -> float:
    """The size of a GPU, from a megabyte to a petabyte."""
    if not 1 / 1024 <= float(text) <= 1024 * 1024:
        raise argparse.ArgumentTypeError(f"{text!r} is not the size of a GPU in GiB, such as 79.19")
    return float(text)


def part(text: str) -> float:
    """A part of the GPU: more than 0, up to 1."""
    if not 0 < float(text) <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a part of a GPU, such as 0.9")
    return float(text)


def run(arguments: argparse.Namespace, out: TextIO, problems: TextIO) -> int:
    """Answer on `out`; 0, or 2 when the question has no answer."""
    try:
        return _answer(arguments, out, problems)
    except (StudioError, EstimateError) as error:
        problems.write(f"Error: {error.message}\n")
        if error.hint:
            problems.write(f"  {error.hint}\n")
        return 2


def _answer(arguments: argparse.Namespace, out: TextIO, problems: TextIO) -> int:
    facts = read_directory(arguments.model, arguments.weights_bytes)
    if arguments.draft_model is not None:
        facts = with_draft(facts, read_directory(arguments.draft_model))
    settings = _with_adapters(_settings(arguments), [read_adapter(directory) for directory in arguments.lora])
    gpu = Gpu(int(arguments.gpu_memory_gib * GIB), arguments.gpu_name)
    answer = estimate(facts, settings, gpu)
    problems.writelines(f"Unknown: {unknown}\n" for unknown in answer.unknown)
    if answer.why_not:
        problems.write(f"Would not start: {answer.why_not}\n")
    if arguments.output == "json":
        out.write(json.dumps(json_answer(answer), indent=2) + "\n")
        return 0
    out.write(table(facts, settings, answer))
    if arguments.explain:
        out.write("\n" + explain(answer))
        split = smallest_split(facts, settings, gpu, arguments.most_gpus)
        share = None
        try:
            (share,) = share_gpu([Wanted(answer, arguments.requests)], gpu)
        except EstimateError as error:
            problems.write(f"Shared GPU: {error.message}\n")
        out.write("\n" + placing(settings, split, arguments.most_gpus, share))
    return 0


def _settings(arguments: argparse.Namespace) -> Settings:
    name, _, version = arguments.engine.partition("==")
    return Settings(
        engine=name,
        version=version or TESTED_VERSION.get(name, ""),
        tensor_parallel=arguments.tp,
        pipeline_parallel=arguments.pp,
        data_parallel=arguments.dp,
        expert_parallel=arguments.enable_expert_parallel,
        element_type="" if arguments.dtype == "auto" else arguments.dtype,
        quantization=arguments.quantization,
        kv_cache_type=arguments.kv_cache_dtype,
        max_model_len=arguments.max_model_len,
        max_num_seqs=arguments.max_num_seqs,
        max_num_batched_tokens=arguments.max_num_batched_tokens,
        memory_fraction=arguments.gpu_memory_utilization,
        kv_cache_bytes=arguments.kv_cache_memory_bytes,
        block_tokens=arguments.block_size,
        enforce_eager=arguments.enforce_eager,
        prefix_caching=not arguments.no_enable_prefix_caching,
        speculative_tokens=arguments.num_speculative_tokens,
        lora_slots=arguments.max_loras,
        lora_rank=arguments.max_lora_rank,
    )


def _with_adapters(settings: Settings, adapters: Sequence[AdapterFacts]) -> Settings:
    """With a slot, where none is asked for, and slots as wide as the widest adapter."""
    if not adapters:
        return settings
    widest = max(adapter.rank for adapter in adapters)
    return replace(settings, lora_slots=settings.lora_slots or 1, lora_rank=max(settings.lora_rank, widest))


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `python -m studio_coordinator estimate`."""
    parser = argparse.ArgumentParser(prog="studio estimate", description="Memory of a model on a GPU, before it runs.")
    add_arguments(parser)
    return run(parser.parse_args(argv), sys.stdout, sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
