"""What is exported: known figures under their names, bounded, with what was left out."""

from prometheus_client import CollectorRegistry, generate_latest
from studio.v1.agent_service_pb2 import ReportTelemetryRequest
from studio_coordinator.telemetry.prometheus import Exported
from studio_coordinator.telemetry.samples import LEFT_OUT, samples


def a_report(gpus: int = 2) -> ReportTelemetryRequest:
    report = ReportTelemetryRequest()
    report.host.cpu_share = 0.5
    for number in range(gpus):
        report.gpus[f"GPU-{number}"].power_watts = 100
    report.replicas["chat-1"].running = 3
    report.replicas["chat-1"].generation_tokens_per_second = 50
    report.replicas["chat-2"].stale = True
    return report


def test_the_page_has_figures_with_their_labels_and_sums() -> None:
    registry = CollectorRegistry()
    with Exported(lambda: [("h1", a_report()), ("h2", a_report())], registry):
        page = generate_latest(registry).decode()
    assert 'studio_host_cpu_share{host="h1"} 0.5' in page
    assert 'studio_gpu_power_watts{gpu="GPU-1",host="h2"} 100.0' in page
    assert 'studio_replica_requests_running{host="h1",model="chat",replica="chat-1"} 3.0' in page
    assert 'studio_model_generation_tokens_per_second{model="chat"} 100.0' in page
    assert "studio_fleet_gpu_power_watts 400.0" in page
    # Nobody knows what a stale engine does.
    assert "chat-2" not in page
    # What was not measured is absent.
    assert "studio_gpu_temperature_celsius" not in page
    assert generate_latest(registry) == b""


def test_no_more_than_so_many_and_gpus_give_way_first() -> None:
    reports = [(f"h{number}", a_report(8)) for number in range(10)]
    everything = samples(reports)
    some = samples(reports, at_most=60)
    assert len(some) == 60
    names = {sample.metric.name for sample in some}
    assert {"studio_host_cpu_share", "studio_replica_requests_running"} <= names
    left_out = next(sample.value for sample in some if sample.metric is LEFT_OUT)
    assert left_out == len(everything) - 60
    assert next(sample.value for sample in everything if sample.metric is LEFT_OUT) == 0
