"""A process is known by its replica: what telemetry says about who holds a GPU."""

import asyncio
import os
import sys
from pathlib import Path

import pytest
from studio_agent.launch import EngineCgroups, ProcessLauncher
from studio_agent.launch.owner import replica_of
from studio_agent.plan.record import Engine
from studio_runtime.process import boot_id

WAITS = "import time; time.sleep(600)"


@pytest.mark.parametrize("with_cgroups", [False, *([True] if EngineCgroups.prepare("probe").root else [])])
async def test_a_process_is_known_by_its_replica(tmp_path: Path, *, with_cgroups: bool) -> None:
    host_id = os.urandom(8).hex()
    launcher = ProcessLauncher(host_id, EngineCgroups.prepare(host_id) if with_cgroups else EngineCgroups(None))
    token = "qwen3.5-1.4.abc"
    intended = Engine(token, 0, boot_id(), str(tmp_path / "engine.log"), cgroup=launcher.cgroup_for(token))
    engine = await launcher.start(intended, [sys.executable, "-c", WAITS], {})
    try:
        # The engine's first step is to enter its cgroup, and its environment is seen once it runs.
        async with asyncio.timeout(10):
            while replica_of(engine.pid, host_id) != "qwen3.5-1":
                await asyncio.sleep(0.02)
        assert replica_of(engine.pid, "another-host") == ""
        assert replica_of(os.getpid(), host_id) == ""
        assert replica_of(2**22 + 1, host_id) == ""
    finally:
        await launcher.kill(engine)
        await launcher.exited(engine)
        await launcher.release(engine)
