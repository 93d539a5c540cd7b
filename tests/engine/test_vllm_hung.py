"""Real vLLM whose engine core is frozen: its API server answers 200 and counts nothing, and yet it is found out."""

import os
import signal
from pathlib import Path

import aiohttp
import psutil
from fakes.agent_in_process import AgentInProcess, supervising
from fakes.agent_records import an_assignment
from studio.v1.assignment_pb2 import AssignedReplica
from studio.v1.recipe_pb2 import EngineArgs, EngineChoice, Recipe
from studio_agent.launch import EngineCgroups, ProcessLauncher
from studio_agent.plan.health import HealthLimits
from studio_agent.plan.record import State
from studio_agent.probe import Prober
from studio_agent.supervise.observation import base_url
from studio_runtime.process import ProcessIdentity

START_SECONDS = 300.0
LIMITS = HealthLimits(hang_seconds=5, quiet_seconds=5, canary_seconds=5, look_seconds=0.5)


def a_tiny_vllm(model: Path) -> AssignedReplica:
    args = EngineArgs(enforce_eager=True)
    args.max_model_len.value = 512
    recipe = Recipe(name="tiny", engine=EngineChoice(name="vllm"), args=args)
    recipe.model.source = f"path://{model}"
    return AssignedReplica(replica_id="tiny-1", generation=1, recipe=recipe, model_names=["tiny"])


async def test_a_frozen_engine_core_behind_a_healthy_api_server_is_replaced(
    tmp_path: Path, engine_environment: Path, engines_dir: Path, tiny_model: Path
) -> None:
    assert engine_environment.is_relative_to(engines_dir)
    (tmp_path / "engines").symlink_to(engines_dir)
    launcher = ProcessLauncher(os.urandom(8).hex(), EngineCgroups(None))
    async with Prober() as prober, supervising(AgentInProcess(tmp_path, prober, launcher, health=LIMITS)) as agent:
        await agent.supervisor.offer(an_assignment(a_tiny_vllm(tiny_model)))
        records = agent.ledger.records
        await agent.until(
            lambda: "tiny-1" in records and records["tiny-1"].state == State.STATE_READY, timeout=START_SECONDS
        )
        engine = records["tiny-1"].engine
        assert engine is not None
        children = psutil.Process(engine.pid).children(recursive=True)
        (core,) = (child for child in children if "EngineCore" in " ".join(child.cmdline()))
        frozen = ProcessIdentity.of(core.pid)
        assert frozen is not None
        os.kill(core.pid, signal.SIGSTOP)
        url = base_url("127.0.0.1", engine.port)
        async with aiohttp.ClientSession() as http, http.get(f"{url}/health") as response:
            assert response.status == 200

        failed = await agent.until_event("replica.failed")
        assert failed.reason == "hung"
        assert "no request runs by its own account" in failed.message
        await agent.until(lambda: records["tiny-1"].engine is None)
        assert not frozen.is_running()
        await agent.until(lambda: records["tiny-1"].restart_count == 1)
