"""Launchers, each in a place where its engines may write. Without a choice: the process launcher, with and without cgroups.

``STUDIO_LAUNCHER=systemd`` chooses the systemd launcher; then this must run as the agent's user on a host that is set up for it,
which is what the fleet lane does.
"""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from fakes.launched import an_engine
from studio_agent.launch import EngineCgroups, Launcher, ProcessLauncher, SystemdLauncher

STATE = Path("/var/lib/studio-agent")
SYSTEMD = os.environ.get("STUDIO_LAUNCHER") == "systemd"
KINDS = (
    ["systemd"] if SYSTEMD else ["without cgroups", *(["with cgroups"] if EngineCgroups.prepare("probe").root else [])]
)


@pytest.fixture(params=KINDS)
async def launcher(request: pytest.FixtureRequest) -> AsyncIterator[Launcher]:
    made = a_launcher(request.param)
    yield made
    for found in await made.survey():
        engine = an_engine(Path("/"), made, found.token)
        await made.kill(engine)
        await made.release(engine)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A replica's folder; for systemd one that the engines' user can be let into."""
    if not SYSTEMD:
        yield tmp_path
        return
    replicas = STATE / "replicas"
    replicas.mkdir(exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=replicas))
    yield made
    shutil.rmtree(made)


def a_launcher(kind: str) -> Launcher:
    """A new one of that kind, as the next agent would have."""
    host_id = os.urandom(8).hex()
    if kind == "systemd":
        return SystemdLauncher.prepare(host_id, STATE / "cache")
    return ProcessLauncher(host_id, EngineCgroups.prepare(host_id) if kind == "with cgroups" else EngineCgroups(None))
