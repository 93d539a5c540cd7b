"""Faults of one host, injected into a real agent with real engines. Which fault is proven where:

== ===================================== ======================================================================================
 1 agent killed                          agent/test_agent_survival, faults/test_fault_crash_points (new work afterwards)
 2 agent frozen                          agent/test_agent_session (goes on); pure/coordinator (suspect, disconnected, lost)
 3 agent's loop blocked, process alive   faults/test_fault_blocked_loop
 4 agent crashes between two steps       faults/test_fault_crash_points
 5 ledger cut or changed                 pure/agent/test_agent_ledger (every byte), agent/test_agent_survival
 6 two agents, one identity              agent/test_agent_survival (one folder); rpc/coordinator (one host, two sessions)
 8 agent out of memory                   faults/test_fault_limits
 9 no descriptors left                   faults/test_fault_limits
10 engine exits, crashes, is killed      faults/test_fault_engines, agent/test_agent_lifecycle
11 engine dies, its workers do not       agent/test_agent_lifecycle, engine/test_vllm_orphans
12 engine hangs, health answers 200      agent/test_agent_hung_engines, engine/test_vllm_hung
13 long prefill                          agent/test_agent_hung_engines, pure/agent/test_agent_health
14 engine cannot be killed               agent/test_agent_unkillable
15 a pid is another process now          faults/test_fault_stale_state, agent/launch/test_launcher_contract
16 port taken by a stranger              agent/test_agent_lifecycle
17 GPU memory held by a stranger         faults/test_fault_gpus (seen, with its owner); pure/coordinator (refused)
18 GPU driver hangs                      faults/test_fault_gpus, agent/gpu/test_gpu_sampler
19 GPU lost, XID                         agent/test_agent_gpus, agent/test_agent_gpu_memory (replicas), agent/gpu/test_gpu_sampler
20 GPUs in another order                 faults/test_fault_gpus, agent/gpu/test_gpu_sampler
21 host booted anew                      faults/test_fault_stale_state
22 disk full while a model is fetched    agent/models/test_model_disk
23 disk full for the agent's state       faults/test_fault_disk_full
24 damaged model file                    agent/models/test_model_pulls
25 hub refuses, is slow or is away       agent/models/test_model_pulls
== ===================================== ======================================================================================

An upgrade under load (7) needs a second release; what it rests on is tested: the next agent adopts what the last one started (1),
and a ledger with fields that this release does not know is read (pure/agent/test_agent_ledger).
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fakes.agent_process import AgentProcess
from fakes.coordinator import FakeCoordinator


@pytest.fixture
async def coordinator() -> AsyncIterator[FakeCoordinator]:
    async with FakeCoordinator() as fake:
        yield fake


@pytest.fixture
async def agent(tmp_path: Path, coordinator: FakeCoordinator) -> AsyncIterator[AgentProcess]:
    async with AgentProcess(tmp_path, coordinator.address) as process:
        yield process
