"""What the agent makes of its GPUs, read from a stand-in for NVIDIA's library."""

from pathlib import Path

from fakes.agent_process import AgentProcess, a_demo_replica
from fakes.coordinator import FakeCoordinator
from fakes.nvml import FakeNvml
from studio.v1.host_pb2 import Gpu
from studio.v1.replica_pb2 import Replica


async def test_gpus_are_known_from_the_first_hello_and_a_quarantine_outlives_the_agent(
    tmp_path: Path, coordinator: FakeCoordinator
) -> None:
    nvml_folder = tmp_path / "nvml"
    nvml_folder.mkdir()
    with FakeNvml(nvml_folder) as nvml:
        nvml.add_gpu(temperature=71)
        async with AgentProcess(tmp_path, coordinator.address, environment=nvml.env()) as agent:
            await coordinator.until(lambda: coordinator.hellos)
            (gpu,) = coordinator.hellos[0].gpus
            assert gpu.health == Gpu.HEALTH_HEALTHY
            assert coordinator.hellos[0].facts.gpu_driver
            await coordinator.until(
                lambda: coordinator.telemetry and coordinator.telemetry[-1].gpus[gpu.uuid].temperature_celsius == 71
            )
            replica = a_demo_replica()
            replica.gpu_uuids.append(gpu.uuid)
            coordinator.assign(replica)
            ready = await coordinator.until_state("demo-1", Replica.STATE_READY)
            assert list(ready.gpu_uuids) == [gpu.uuid]

            nvml.raise_xid(0, 79)
            await coordinator.until(lambda: coordinator.gpus[gpu.uuid].health == Gpu.HEALTH_QUARANTINED)
            await coordinator.until(lambda: [kind for kind in coordinator.kinds() if kind.startswith("gpu.")])

            await agent.kill()
            await agent.start()
            await coordinator.until(lambda: len(coordinator.hellos) == 2)
            assert coordinator.hellos[1].gpus[0].health == Gpu.HEALTH_QUARANTINED
            assert coordinator.hellos[1].replicas[0].pid == ready.pid
