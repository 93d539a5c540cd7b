"""The newest figures under the names that exporters use.

Bounded: at most ``MOST_SAMPLES`` at a time. Fleet-wide sums come first, then hosts, then replicas, then GPUs, which is what
gives way in a very large fleet; how many were left out is a sample itself.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from studio.v1.agent_service_pb2 import ReportTelemetryRequest
from studio.v1.host_pb2 import GpuFigures, HostFigures
from studio.v1.replica_pb2 import ReplicaFigures

MOST_SAMPLES = 20_000


@dataclass(frozen=True)
class Metric:
    """A gauge: its name, what it says, and the names of its labels."""

    name: str
    help: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Sample:
    """One value of a gauge, with the values of its labels."""

    metric: Metric
    labels: tuple[str, ...]
    value: float


Report = tuple[str, ReportTelemetryRequest]
Field = tuple[str, Metric]

HOST_LABELS = ("host",)
GPU_LABELS = ("host", "gpu")
REPLICA_LABELS = ("host", "model", "replica")


def _metric(name: str, text: str, labels: tuple[str, ...]) -> Metric:
    return Metric(f"studio_{name}", text, labels)


HOSTS = _metric("fleet_hosts", "Hosts that report figures", ())
GPUS = _metric("fleet_gpus", "GPUs that report figures", ())
POWER = _metric("fleet_gpu_power_watts", "Power of all GPUs together", ())
LEFT_OUT = _metric("fleet_samples_left_out", "Figures that are not exported because there are too many", ())
MODEL_RATE = _metric("model_generation_tokens_per_second", "Tokens that all replicas of a model make", ("model",))
MODEL_RUNNING = _metric("model_requests_running", "Requests that run in all replicas of a model", ("model",))
MODEL_WAITING = _metric("model_requests_waiting", "Requests that wait in all replicas of a model", ("model",))
SUMS = (HOSTS, GPUS, POWER, LEFT_OUT, MODEL_RATE, MODEL_RUNNING, MODEL_WAITING)

HOST_METRICS: tuple[Field, ...] = (
    ("cpu_share", _metric("host_cpu_share", "Part of the CPUs in use", HOST_LABELS)),
    ("memory_used_bytes", _metric("host_memory_used_bytes", "Memory in use", HOST_LABELS)),
    ("disk_free_bytes", _metric("host_disk_free_bytes", "Free space where models are kept", HOST_LABELS)),
    ("load_1m", _metric("host_load_1m", "Load over a minute", HOST_LABELS)),
)
REPLICA_METRICS: tuple[Field, ...] = (
    ("running", _metric("replica_requests_running", "Requests that the engine works on", REPLICA_LABELS)),
    ("waiting", _metric("replica_requests_waiting", "Requests that wait in the engine", REPLICA_LABELS)),
    ("kv_used_share", _metric("replica_kv_used_share", "Part of the KV cache in use", REPLICA_LABELS)),
    (
        "generation_tokens_per_second",
        _metric("replica_generation_tokens_per_second", "Tokens that the engine makes", REPLICA_LABELS),
    ),
    ("prefix_hit_share", _metric("replica_prefix_hit_share", "Part of prompts found in the cache", REPLICA_LABELS)),
)
GPU_METRICS: tuple[Field, ...] = (
    ("utilization_share", _metric("gpu_utilization_share", "Part of the time that the GPU was busy", GPU_LABELS)),
    ("memory_used_bytes", _metric("gpu_memory_used_bytes", "Memory in use", GPU_LABELS)),
    ("power_watts", _metric("gpu_power_watts", "Power", GPU_LABELS)),
    ("temperature_celsius", _metric("gpu_temperature_celsius", "Temperature", GPU_LABELS)),
    ("sm_clock_mhz", _metric("gpu_sm_clock_mhz", "Clock of the multiprocessors", GPU_LABELS)),
    ("ecc_uncorrected", _metric("gpu_ecc_uncorrected", "Memory errors that could not be corrected", GPU_LABELS)),
)
ALL: tuple[Metric, ...] = (*SUMS, *(metric for _, metric in (*HOST_METRICS, *REPLICA_METRICS, *GPU_METRICS)))


def samples(reports: Sequence[Report], at_most: int = MOST_SAMPLES) -> list[Sample]:
    """Every sample of the reports, by host name, as far as there is room. What is unknown or stale has none."""
    parts = (_of_hosts, _of_replicas, _of_gpus)
    single = chain.from_iterable(part(name, report) for part in parts for name, report in reports)
    sums = _sums(reports)
    found = list(islice(single, max(0, at_most - len(sums) - 1)))
    left_out = sum(1 for _ in single)
    return [*sums, Sample(LEFT_OUT, (), left_out), *found]


def model_of(replica_id: str) -> str:
    """``chat`` of ``chat-1``."""
    return replica_id.rpartition("-")[0] or replica_id


def _sums(reports: Sequence[Report]) -> list[Sample]:
    figures = [report.gpus[uuid] for _, report in reports for uuid in report.gpus]
    found = [
        Sample(HOSTS, (), len(reports)),
        Sample(GPUS, (), len(figures)),
        Sample(POWER, (), sum(one.power_watts for one in figures if not one.stale)),
    ]
    fields = {"generation_tokens_per_second": MODEL_RATE, "running": MODEL_RUNNING, "waiting": MODEL_WAITING}
    totals: Counter[tuple[Metric, str]] = Counter()
    for _, report in reports:
        for replica_id, one in report.replicas.items():
            for name, metric in fields.items():
                if not one.stale and one.HasField(name):  # type: ignore[arg-type] # one of its fields
                    totals[metric, model_of(replica_id)] += getattr(one, name)
    return [*found, *(Sample(metric, (model,), value) for (metric, model), value in sorted(totals.items(), key=_order))]


def _order(item: tuple[tuple[Metric, str], float]) -> tuple[str, str]:
    (metric, model), _ = item
    return metric.name, model


def _of_hosts(host: str, report: ReportTelemetryRequest) -> Iterator[Sample]:
    return _values(report.host, HOST_METRICS, (host,))


def _of_replicas(host: str, report: ReportTelemetryRequest) -> Iterator[Sample]:
    for replica_id in sorted(report.replicas):
        figures = report.replicas[replica_id]
        if not figures.stale:
            yield from _values(figures, REPLICA_METRICS, (host, model_of(replica_id), replica_id))


def _of_gpus(host: str, report: ReportTelemetryRequest) -> Iterator[Sample]:
    for uuid in sorted(report.gpus):
        figures = report.gpus[uuid]
        if not figures.stale:
            yield from _values(figures, GPU_METRICS, (host, uuid))


def _values(
    figures: HostFigures | GpuFigures | ReplicaFigures, fields: Sequence[Field], labels: tuple[str, ...]
) -> Iterator[Sample]:
    has: Callable[[str], bool] = figures.HasField  # type: ignore[assignment] # takes the names of its own fields
    for name, metric in fields:
        if has(name):
            yield Sample(metric, labels, getattr(figures, name))
