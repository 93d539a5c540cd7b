"""The memory estimate against published measurements, by kind of architecture.

Prints a table per kind, the mean errors, and the same errors when the fitted constants are fitted anew without the model in
question (leave one model out). Writes bench/out/estimate.json.

    python bench/estimate.py [POINTS.csv]

Errors are |predicted - measured| / measured. `weights` and `free for KV` are predicted from config.json and flags alone;
`KV tokens` is given the logged size of the KV cache. With pipeline stages the log shows the KV size of the first stage and the
tokens of the tightest one: such rows are scored like all others.
"""

import csv
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import log2
from pathlib import Path
from statistics import mean, median

from studio_coordinator.plan.memory.estimate import estimate_vllm
from studio_coordinator.plan.memory.facts import ModelFacts
from studio_coordinator.plan.memory.fits import FITS, Fits
from studio_coordinator.plan.memory.model import model_facts
from studio_coordinator.plan.memory.settings import Gpu, Settings
from studio_coordinator.plan.memory.sizes import GIB

ROOT = Path(__file__).resolve().parent.parent
POINTS = ROOT / "tests" / "data" / "vram_points.csv"
ARCHITECTURES = ROOT / "tests" / "data" / "architectures"
OUT = ROOT / "bench" / "out" / "estimate.json"
ELEMENT_TYPES = {"fp32": "float32", "fp16": "float16"}


@dataclass(frozen=True)
class Point:
    """One published start of an engine: what was asked, and what its log said. GiB per GPU."""

    model: str
    facts: ModelFacts
    settings: Settings
    gpu: Gpu
    weights: float
    activation: float
    buffers: float
    graphs: float
    kv: float
    kv_tokens: int

    @property
    def kind(self) -> str:
        """Kind of architecture, for the table."""
        facts = self.facts
        kinds = [
            "MLA" if facts.latent else "",
            "state hybrid" if facts.hybrid else "",
            "window hybrid" if len({str(layer) for layer in facts.caches}) > 1 and not facts.hybrid else "",
            "experts" if facts.experts else "",
            "quantized" if facts.quantization or self.settings.quantization else "",
            "pipeline" if self.settings.pipeline_parallel > 1 else "",
        ]
        return ", ".join(filter(None, kinds)) or "dense"


@dataclass(frozen=True)
class Errors:
    """Relative errors of one point; activation is None with pipeline stages, where the log shows another stage."""

    weights: float
    kv_tokens: float
    free_for_kv: float
    activation: float | None


def main() -> None:
    """Print the tables and write the figures."""
    points, left_out = read_points(Path(sys.argv[1]) if len(sys.argv) > 1 else POINTS)
    scored = [(point, errors(point, FITS)) for point in points]
    by_kind: dict[str, list[Errors]] = defaultdict(list)
    for point, error in scored:
        by_kind[point.kind].append(error)
    print(f"{'kind':<28} {'rows':>4} {'weights':>8} {'KV tokens':>10} {'free for KV':>12} {'activation':>11}")
    for kind, of_kind in sorted(by_kind.items()):
        print_row(kind, of_kind)
    print_row("all", [error for _, error in scored])
    without = {
        model: fit([point for point in points if point.model != model]) for model in {point.model for point in points}
    }
    unseen = [errors(point, without[point.model]) for point in points]
    print_row("all, model left out of fit", unseen)
    worst = max(scored, key=lambda one: one[1].free_for_kv)
    print(f"worst free for KV: {worst[1].free_for_kv:.2%}, {worst[0].model}, TP {worst[0].settings.tensor_parallel}")
    print(f"{len(points)} rows; {left_out} left out because their model's architecture is not known with certainty")
    OUT.parent.mkdir(parents=True, exist_ok=True)
    figures = {
        "weights_err_mean": mean(error.weights for _, error in scored),
        "kv_tokens_err_mean": mean(error.kv_tokens for _, error in scored),
        "free_for_kv_err_mean": mean(error.free_for_kv for _, error in scored),
        "free_for_kv_err_mean_leave_one_model_out": mean(error.free_for_kv for error in unseen),
        "rows": len(points),
        "rows_left_out": left_out,
        "by_kind": {
            kind: {
                "rows": len(of_kind),
                "weights_err_mean": mean(error.weights for error in of_kind),
                "kv_tokens_err_mean": mean(error.kv_tokens for error in of_kind),
                "free_for_kv_err_mean": mean(error.free_for_kv for error in of_kind),
            }
            for kind, of_kind in by_kind.items()
        },
    }
    OUT.write_text(json.dumps(figures, indent=2) + "\n")


def read_points(path: Path) -> tuple[list[Point], int]:
    """Points of the table at `path`, and how many rows have no architecture file."""
    points, left_out = [], 0
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            architecture = ARCHITECTURES / f"{row['model'].replace('/', '--')}.json"
            if not architecture.is_file():
                left_out += 1
                continue
            points.append(_point(row, json.loads(architecture.read_text())))
    return points, left_out


def errors(point: Point, fits: Fits) -> Errors:
    """Errors of the estimate for `point` with the fitted constants `fits`."""
    predicted = estimate_vllm(point.facts, point.settings, point.gpu, fits=fits)
    given = replace(point.settings, kv_cache_bytes=int(point.kv * GIB))
    tokens = estimate_vllm(point.facts, given, point.gpu, fits=fits).kv_tokens
    staged = point.settings.pipeline_parallel > 1
    return Errors(
        weights=relative(predicted.weights.bytes / GIB, point.weights),
        kv_tokens=relative(tokens, point.kv_tokens),
        free_for_kv=relative(predicted.kv.bytes / GIB, point.kv),
        activation=None if staged else relative(predicted.activation.bytes / GIB, point.activation),
    )


def fit(points: Sequence[Point]) -> Fits:
    """The constants that decide free-for-KV, fitted to `points` alone; one that no point shows keeps its value."""
    alone = [point for point in points if point.settings.tensor_parallel * point.settings.pipeline_parallel == 1]
    staged = [point for point in points if point.settings.pipeline_parallel > 1]
    pairs = [point for point in points if point.settings.tensor_parallel == 2]  # noqa: PLR2004 - TP 2
    wider = [point for point in points if point.settings.tensor_parallel > 2]  # noqa: PLR2004 - TP above 2
    buffers_tensor = average((point.buffers for point in pairs), FITS.buffers_tensor)
    return replace(
        fit_activation(alone),
        buffers_single=average((point.buffers for point in alone), FITS.buffers_single),
        buffers_tensor=buffers_tensor,
        buffers_doubling=average(
            ((point.buffers - buffers_tensor) / (log2(point.settings.tensor_parallel) - 1) for point in wider),
            FITS.buffers_doubling,
        ),
        buffers_pipeline=average((point.buffers for point in staged), FITS.buffers_pipeline),
    )


def fit_activation(points: Sequence[Point]) -> Fits:
    """The two constants of the activation peak: the best of a grid of residual copies, each with its own work space."""

    def activation(point: Point, fits: Fits) -> float:
        return estimate_vllm(point.facts, point.settings, point.gpu, fits=fits).activation.bytes / GIB

    candidates: list[tuple[float, Fits]] = []
    for copies in range(20, 51, 2):
        bare = replace(FITS, residual_copies=copies / 10, workspace=0.0)
        fits = replace(bare, workspace=median(point.activation - activation(point, bare) for point in points))
        candidates.append((mean(relative(activation(point, fits), point.activation) for point in points), fits))
    return min(candidates, key=lambda candidate: candidate[0])[1]


def average(values: Iterable[float], otherwise: float) -> float:
    """Mean of `values`; `otherwise` when there are none."""
    listed = list(values)
    return mean(listed) if listed else otherwise


def relative(predicted: float, measured: float) -> float:
    """Relative error."""
    return abs(predicted - measured) / measured


def print_row(name: str, of_kind: Sequence[Errors]) -> None:
    """One row of the table: mean errors."""
    activation = average((error.activation for error in of_kind if error.activation is not None), float("nan"))
    print(
        f"{name:<28} {len(of_kind):>4} {mean(error.weights for error in of_kind):>8.2%}"
        f" {mean(error.kv_tokens for error in of_kind):>10.2%} {mean(error.free_for_kv for error in of_kind):>12.2%}"
        f" {activation:>11.2%}"
    )


def _point(row: dict[str, str], config: dict[str, object]) -> Point:
    settings = Settings(
        engine="vllm",
        version=row["engine"].removeprefix("vllm-"),
        tensor_parallel=int(row["tp"]),
        pipeline_parallel=int(row["pp"]),
        element_type=ELEMENT_TYPES.get(row["dtype_quant"], ""),
        quantization="fp8" if row["dtype_quant"].endswith("fp8-online") else "",
        kv_cache_type=row["kv_cache_dtype"],
        max_model_len=int(row["max_model_len"]),
        memory_fraction=float(row["mem_fraction"]),
    )
    return Point(
        model=row["model"],
        facts=model_facts(config),
        settings=settings,
        gpu=Gpu(int(float(row["gpu_total_gib"]) * GIB), row["gpu"]),
        weights=float(row["weights_gib_per_gpu"]),
        activation=float(row["activation_gib"]),
        buffers=float(row["non_torch_gib"]),
        graphs=float(row["graph_actual_gib"]),
        kv=float(row["kv_gib_per_gpu"]),
        kv_tokens=int(row["kv_tokens"]),
    )


if __name__ == "__main__":
    main()
