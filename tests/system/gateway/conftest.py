import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from fakes.gateway_process import GatewayProcess

Start = Callable[..., Awaitable[GatewayProcess]]


@pytest.fixture
async def start_gateway(tmp_path: Path) -> AsyncIterator[Start]:
    """Start real gateways; those still running at the end are killed, by pid."""
    started: list[GatewayProcess] = []

    async def start(coordinator_port: int, *arguments: str) -> GatewayProcess:
        gateway = await GatewayProcess.start(Path(sys.executable), tmp_path, coordinator_port, *arguments)
        started.append(gateway)
        return gateway

    yield start
    for gateway in started:
        await gateway.kill()
