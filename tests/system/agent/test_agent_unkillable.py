"""What does not die is said to be so, and its GPUs are given to nobody."""

import asyncio
import os
from pathlib import Path

from fakes.agent_in_process import AgentInProcess
from fakes.agent_records import an_assignment, assigned
from studio_agent.launch import EngineCgroups, ProcessLauncher
from studio_agent.plan.record import Engine, State
from studio_agent.probe import Prober
from studio_agent.settings import StopLimits

GPU = "GPU-0"


class Stubborn(ProcessLauncher):
    """Its engines do not die, as a process does not that waits in the kernel for its device."""

    dies = False

    async def kill(self, engine: Engine) -> None:
        if self.dies:
            await super().kill(engine)


async def test_an_unkillable_engine_keeps_its_gpu_until_it_is_gone(tmp_path: Path) -> None:
    launcher = Stubborn(os.urandom(8).hex(), EngineCgroups(None))
    limits = StopLimits(kill_seconds=0.2, kill_again_seconds=0.2)
    async with Prober() as prober:
        agent = AgentInProcess(tmp_path, prober, launcher, limits)
        running = asyncio.ensure_future(agent.supervisor.run())
        try:
            old = assigned("old-1", 1, GPU)
            old.recipe.args.demo.ignore_sigterm = True
            old.stop_grace.FromMilliseconds(100)
            await agent.supervisor.offer(an_assignment(old, generation=1))
            await agent.until_state("old-1", State.STATE_READY)

            await agent.supervisor.offer(an_assignment(assigned("new-1", 1, GPU), generation=2))
            stuck = await agent.until(
                lambda: (r := agent.ledger.records["old-1"]).reason.startswith("unkillable") and r
            )
            assert stuck.state == State.STATE_STOPPING
            assert str(stuck.engine.pid) in stuck.reason
            waiting = agent.ledger.records["new-1"]
            assert waiting.state == State.STATE_PENDING
            assert "old-1" in waiting.reason

            launcher.dies = True
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
