"""The real agent against a fake coordinator."""

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
