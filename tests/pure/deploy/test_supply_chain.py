"""What is installed: only what the locks name by hash, and nothing that runs by itself when any Python starts."""

import re
import site
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LOCKS = ["requirements.lock", "requirements-dev.lock"]
PINNED = re.compile(r"[A-Za-z0-9._-]+(\[[a-z0-9,._-]+\])?==\S+( ; .+)?")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
# Our own sources' folders, and setuptools' old answer to distutils: both were looked at.
RUN_AT_START = {"_vllm_studio.pth", "distutils-precedence.pth"}


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_of_a_lock_has_one_version_and_its_hashes(name: str) -> None:
    lines = [line for line in (ROOT / name).read_text().replace("\\\n", "").splitlines() if line.strip()]
    entries = [line for line in lines if not line.startswith("#")]
    assert len(entries) > 30
    for entry in entries:
        requirement, *hashes = re.split(r"\s+(?=--)", entry.strip())
        assert PINNED.fullmatch(requirement), entry[:100]
        assert hashes, requirement
        assert all(HASH.fullmatch(one) for one in hashes), requirement


def test_the_development_lock_agrees_with_the_one_that_is_shipped() -> None:
    def versions(name: str) -> set[str]:
        return set(re.findall(r"^([A-Za-z0-9._-]+(?:\[[^]]*\])?==[^\s;]+)", (ROOT / name).read_text(), re.MULTILINE))

    assert versions("requirements.lock") <= versions("requirements-dev.lock")


def test_the_commands_that_install_ask_for_hashes() -> None:
    installs = [
        line for line in (ROOT / "Makefile").read_text().splitlines() if "requirements" in line and "-r" in line
    ]
    assert installs
    assert all("--require-hashes" in line for line in installs)


def test_no_package_runs_code_whenever_python_starts() -> None:
    folders = [Path(folder) for folder in site.getsitepackages()]
    assert any(folder.is_dir() for folder in folders)
    found = {file.name for folder in folders for file in folder.glob("*.pth")}
    assert found <= RUN_AT_START
    assert not [file for folder in folders for file in folder.glob("*customize.py")]
