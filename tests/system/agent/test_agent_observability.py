"""What an operator sees of the agent itself: its metrics, its traces, its log."""

import json
from pathlib import Path

import aiohttp
from fakes.agent_process import AgentProcess, a_demo_replica
from fakes.coordinator import FakeCoordinator
from studio.v1.replica_pb2 import Replica

TRACE = "0af7651916cd43dd8448eb211c80319c"


async def test_metrics_traces_and_log_tell_of_a_start(tmp_path: Path, coordinator: FakeCoordinator) -> None:
    trace_file = tmp_path / "spans.jsonl"
    environment = {"STUDIO_TRACE_FILE": str(trace_file)}
    extra = ("--metrics", "127.0.0.1:0", "--label", "pool=test", "--host-name", "lab-7")
    async with AgentProcess(tmp_path, coordinator.address, *extra, environment=environment) as agent:
        replica = a_demo_replica()
        replica.traceparent = f"00-{TRACE}-b7ad6b7169203331-01"
        coordinator.assign(replica)
        await coordinator.until_state("demo-1", Replica.STATE_READY)
        assert coordinator.hellos[0].host_name == "lab-7"
        assert dict(coordinator.hellos[0].labels) == {"pool": "test"}

        metrics = agent.ready()["metrics"]
        async with aiohttp.ClientSession() as http, http.get(f"http://{metrics}/metrics") as response:
            page = await response.text()
        assert 'studio_agent_replicas{state="READY"} 1.0' in page
        assert "studio_agent_session_connected 1.0" in page
        assert "studio_agent_engine_start_seconds_count 1.0" in page

    (span,) = (json.loads(line) for line in trace_file.read_text().splitlines())
    assert span["name"] == "engine.start"
    assert span["context"]["trace_id"] == f"0x{TRACE}"
    assert span["attributes"]["replica"] == "demo-1"
    lines = [json.loads(line) for line in agent.output().splitlines()]
    (ready,) = (line for line in lines if line["event"] == "replica_ready")
    assert ready["replica"] == "demo-1"
