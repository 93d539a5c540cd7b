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
from fakes.launched import STATE, a_launcher, an_engine
from studio_agent.launch import EngineCgroups, Launcher

SYSTEMD = os.environ.get("STUDIO_LAUNCHER") == "systemd"
CGROUPS = EngineCgroups.prepare("probe").root is not None
KINDS = ["systemd"] if SYSTEMD else ["without cgroups", *(["with cgroups"] if CGROUPS else [])]

collect_ignore = ["test_process_launcher.py" if SYSTEMD else "test_systemd_launcher.py"]


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
