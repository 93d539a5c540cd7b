"""Hosts for the tests of this lane.

Without root or namespaces the lane fails and says what is missing; STUDIO_SKIP_FLEET=1 skips it.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet import releases, rootfs, studio_host
from fleet.hosts import HIERARCHIES, Host
from fleet.network import Network

# The first test of a machine also makes the file system, which takes a minute or two.
TIMEOUT_SECONDS = 600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIMEOUT_SECONDS))


def missing() -> list[str]:
    """What this machine lacks for booting hosts."""
    found = []
    if os.geteuid() != 0:
        return ["root: containers, mounts and network namespaces are made"]
    if not HIERARCHIES:
        found.append("cgroup version 2 below /sys/fs/cgroup")
    if "\toverlay\n" not in Path("/proc/filesystems").read_text():
        found.append("overlayfs in the kernel")
    tools = [tool for tool in rootfs.TOOLS if shutil.which(tool) is None]
    if tools and shutil.which("apt-get") is None:
        found.append(f"the programs {', '.join(tools)}, and apt-get to install them")
    return found


@pytest.fixture(scope="session")
def host_disks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where hosts keep their changes."""
    if os.environ.get("STUDIO_SKIP_FLEET") == "1":
        pytest.skip("STUDIO_SKIP_FLEET=1")
    if lacking := missing():
        pytest.fail(f"test hosts cannot be booted here; missing: {'; '.join(lacking)}. STUDIO_SKIP_FLEET=1 skips them.")
    rootfs.ensure_tools()
    return tmp_path_factory.mktemp("hosts")


@pytest.fixture(scope="session")
def release(host_disks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of this checkout."""
    assert host_disks.is_dir()
    return releases.archive(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="session")
def network(host_disks: Path) -> Iterator[Network]:
    assert host_disks.is_dir()
    with Network() as network:
        yield network


@pytest.fixture(scope="session")
def host(host_disks: Path, network: Network) -> Iterator[Host]:
    """One booted host with Studio on it; the agent is not started."""
    made = Host("solo", rootfs.prepared(), host_disks / "solo", network.new_cable())
    made.make_disk()
    try:
        studio_host.install(made)
        made.boot()
        yield made
    finally:
        made.remove()
