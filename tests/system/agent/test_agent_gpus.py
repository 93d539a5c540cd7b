"""What the agent makes of its GPUs, read from a stand-in for NVIDIA's library."""

import asyncio
from pathlib import Path

from fakes.agent_process import AgentProcess, a_demo_replica
from fakes.coordinator import FakeCoordinator
from fakes.nvml import GIB, FakeNvml
from studio.v1.agent_service_pb2 import CheckGpu, Command, CommandResult, ConnectResponse
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

            nvml.set("gpu.0.processes", f"{ready.pid}:{5 * GIB}")
            # It has the sampler read at once what it reads now and then, the processes among it.
            nvml.raise_xid(0, 79)
            await coordinator.until_replica("demo-1", lambda one: one.measured.gpu_peak_bytes == 5 * GIB)
            await coordinator.until(lambda: coordinator.gpus[gpu.uuid].health == Gpu.HEALTH_QUARANTINED)
            await coordinator.until(lambda: [kind for kind in coordinator.kinds() if kind.startswith("gpu.")])

            await agent.kill()
            await agent.start()
            await coordinator.until(lambda: len(coordinator.hellos) == 2)
            assert coordinator.hellos[1].gpus[0].health == Gpu.HEALTH_QUARANTINED
            assert coordinator.hellos[1].replicas[0].pid == ready.pid


async def test_a_quarantine_ends_when_an_operator_has_the_gpu_checked(
    tmp_path: Path, coordinator: FakeCoordinator
) -> None:
    nvml_folder = tmp_path / "nvml"
    nvml_folder.mkdir()
    with FakeNvml(nvml_folder) as nvml:
        uuid = nvml.add_gpu()
        async with AgentProcess(tmp_path, coordinator.address, environment=nvml.env()):
            await coordinator.until(lambda: coordinator.hellos)
            nvml.set("gpu.0.field.230", 1)
            nvml.raise_xid(0, 154)
            await coordinator.until(lambda: coordinator.gpus[uuid].health == Gpu.HEALTH_QUARANTINED)
            replica = a_demo_replica()
            replica.gpu_uuids.append(uuid)
            coordinator.assign(replica)
            waiting = await coordinator.until_state("demo-1", Replica.STATE_PENDING)
            assert "quarantined" in waiting.state_reason

            refused = await check(coordinator, uuid, "too-early")
            assert (refused.ok, refused.reason) == (False, "refused_by_safety")
            assert "has to be reset" in refused.message

            nvml.set("gpu.0.field.230", 0)
            # Any report makes the sampler look at everything again.
            nvml.raise_xid(0, 154)
            checks = iter(range(1000))
            async with asyncio.timeout(30):
                while not (await check(coordinator, uuid, f"mended-{next(checks)}")).ok:
                    await asyncio.sleep(0.1)
            assert (await coordinator.until_state("demo-1", Replica.STATE_READY)).gpu_uuids == [uuid]
            assert coordinator.gpus[uuid].health == Gpu.HEALTH_HEALTHY
            assert "gpu.healthy" in coordinator.kinds()


async def check(coordinator: FakeCoordinator, uuid: str, command_id: str) -> CommandResult:
    command = Command(command_id=command_id, term=1, check_gpu=CheckGpu(uuid=uuid))
    coordinator.send(ConnectResponse(command=command))
    return await coordinator.until(
        lambda: next((one for one in coordinator.results if one.command_id == command_id), None)
    )
