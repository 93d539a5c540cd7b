"""What does not die is said to be so, and its GPUs are given to nobody until an operator has looked at them."""

import asyncio
import os
from pathlib import Path

from fakes.agent_in_process import AgentInProcess
from fakes.agent_records import an_assignment, assigned
from fakes.nvml import FakeNvml
from studio_agent.gpu.sampler import GpuSampler, SamplerState
from studio_agent.launch import EngineCgroups, ProcessLauncher
from studio_agent.plan.record import Engine, State
from studio_agent.probe import Prober
from studio_agent.settings import StopLimits

TICK_SECONDS = 0.1


class Stubborn(ProcessLauncher):
    """Its engines do not die, as a process does not that waits in the kernel for its device."""

    dies = False

    async def kill(self, engine: Engine) -> None:
        if self.dies:
            await super().kill(engine)


async def test_an_unkillable_engine_keeps_its_gpu_until_it_is_gone(tmp_path: Path) -> None:
    (tmp_path / "nvml").mkdir()
    with FakeNvml(tmp_path / "nvml") as nvml:
        gpu = nvml.add_gpu()
        async with GpuSampler(TICK_SECONDS, environment=os.environ | nvml.env()) as sampler:
            await an_unkillable_engine(tmp_path / "agent", sampler, gpu)


async def an_unkillable_engine(folder: Path, sampler: GpuSampler, gpu: str) -> None:
    launcher = Stubborn(os.urandom(8).hex(), EngineCgroups(None))
    limits = StopLimits(kill_seconds=0.2, kill_again_seconds=0.2)
    async with Prober() as prober:
        agent = AgentInProcess(folder, prober, launcher, limits, gpus=sampler)
        running = asyncio.ensure_future(agent.supervisor.run())
        try:
            old = assigned("old-1", 1, gpu)
            old.recipe.args.demo.ignore_sigterm = True
            old.stop_grace.FromMilliseconds(100)
            await agent.supervisor.offer(an_assignment(old, generation=1))
            await agent.until_state("old-1", State.STATE_READY)

            await agent.supervisor.offer(an_assignment(assigned("new-1", 1, gpu), generation=2))
            stuck = await agent.until(
                lambda: (r := agent.ledger.records["old-1"]).reason.startswith("unkillable") and r
            )
            assert stuck.state == State.STATE_STOPPING
            assert str(stuck.engine.pid) in stuck.reason
            waiting = agent.ledger.records["new-1"]
            assert waiting.state == State.STATE_PENDING
            assert "old-1" in waiting.reason

            assert "survives SIGKILL" in sampler.quarantined()[gpu]

            launcher.dies = True
            await agent.until(lambda: "quarantined" in agent.ledger.records["new-1"].reason)
            await agent.until(lambda: sampler.state is SamplerState.RUNNING)
            sampler.recheck(gpu)
            await agent.until_state("new-1", State.STATE_READY)
            assert "old-1" not in agent.ledger.records or agent.ledger.records["old-1"].state == State.STATE_STOPPED
            kinds = [event.event.kind for event in agent.events.after(0, 100)]
            assert kinds.count("replica.unkillable") == 1
        finally:
            launcher.dies = True
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            for record in agent.ledger.records.values():
                if record.engine is not None:
                    await launcher.kill(record.engine)
                    await launcher.exited(record.engine)
