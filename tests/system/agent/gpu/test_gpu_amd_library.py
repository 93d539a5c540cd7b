"""AMD's GPUs at the lowest level: the sampler's real child, AMD's real binding, and a stand-in for the library below it."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from fakes.amd_library import GIB, NO_DRIVER, FakeAmdLibrary, is_installed
from studio_agent.gpu.health import HEALTHY
from studio_agent.gpu.respawn import Patience
from studio_agent.gpu.sampler import GpuSampler, SamplerState

pytestmark = pytest.mark.skipif(not is_installed(), reason="AMD's binding is not installed: pip install amdsmi==7.0.2")

IMPATIENT = Patience(hang_seconds=5.0, first_delay_seconds=0.05, longest_delay_seconds=0.2, starts_per_hour=50)


@pytest.fixture
def amd(tmp_path: Path) -> Iterator[FakeAmdLibrary]:
    with FakeAmdLibrary(tmp_path) as library:
        yield library


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def sampling(amd: FakeAmdLibrary) -> AsyncIterator[GpuSampler]:
    async with GpuSampler(0.1, patience=IMPATIENT, environment=os.environ | amd.env()) as sampler:
        await until(lambda: sampler.state is not SamplerState.STARTING)
        yield sampler


async def test_every_value_comes_through_the_real_binding(amd: FakeAmdLibrary):
    uuid = amd.add_gpu()
    processes = amd.a_process(os.getpid(), 3 * GIB), amd.a_process(999999, 2**64 - 1)
    amd.set(0, "amdsmi_get_gpu_process_list", amd.structs.uint32_t(2), *processes)
    async with sampling(amd) as sampler:
        (gpu,) = sampler.gpus()
        figures = sampler.figures()[uuid]
        assert (sampler.vendor, sampler.driver_version) == ("amd", "amdgpu 6.14.14")
    assert (gpu.uuid, gpu.model, gpu.memory_bytes) == (uuid, "Stand-in 64G", 64 * GIB)
    assert (gpu.pci_bus_id, gpu.health) == ("7fff:01:00.0", HEALTHY)
    assert (figures.utilization_share, figures.memory_used_bytes) == (0.73, GIB)
    assert (figures.power_watts, figures.power_limit_watts, figures.energy_millijoules) == (250, 560, 31_000)
    assert (figures.temperature_celsius, figures.sm_clock_mhz, figures.memory_clock_mhz) == (41, 1700, 1600)
    assert (figures.ecc_uncorrected, figures.stale) == (2, False)
    ours, other = figures.processes
    assert (ours.pid, ours.memory_used_bytes, bool(ours.command)) == (os.getpid(), 3 * GIB, True)
    assert (other.pid, other.HasField("memory_used_bytes")) == (999999, False)


async def test_what_the_library_does_not_support_or_marks_is_absent(amd: FakeAmdLibrary):
    uuid = amd.add_gpu()
    of = amd.structs
    marked = of.amdsmi_power_info_t(current_socket_power=0xFFFF, average_socket_power=0xFFFF)
    amd.set(0, "amdsmi_get_power_info", marked)
    amd.set(0, "amdsmi_get_gpu_activity", of.amdsmi_engine_usage_t(gfx_activity=0xFFFF))
    for function in (
        "amdsmi_get_energy_count",
        "amdsmi_get_gpu_total_ecc_count",
        "amdsmi_get_power_cap_info.0",
        f"amdsmi_get_temp_metric.{of.AMDSMI_TEMPERATURE_TYPE_EDGE}",
    ):
        amd.unset(0, function)
    async with sampling(amd) as sampler:
        figures = sampler.figures()[uuid]
    told = {field.name for field, _ in figures.ListFields()}
    assert told == {"at", "memory_used_bytes", "temperature_celsius", "sm_clock_mhz", "memory_clock_mhz"}
    assert figures.temperature_celsius == 55


async def test_a_driver_that_is_loaded_later_is_found_by_the_real_binding(amd: FakeAmdLibrary):
    uuid = amd.add_gpu()
    amd.fail(NO_DRIVER)
    async with sampling(amd) as sampler:
        assert sampler.state is SamplerState.ABSENT
        assert "AMD SMI cannot be used" in sampler.reason
        amd.fail(0)
        await until(lambda: sampler.state is SamplerState.RUNNING)
        assert [gpu.uuid for gpu in sampler.gpus()] == [uuid]
