"""One control plane for all tests here: each leaves it with a leader and everything running."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from fakes.control_plane import ControlPlane, running_control_plane


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def plane(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ControlPlane]:
    async with running_control_plane(tmp_path_factory.mktemp("failover")) as running:
        yield running
