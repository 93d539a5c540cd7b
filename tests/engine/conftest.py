"""A real engine and a real, tiny model: both made here, once for each session of tests.

The environment is kept in `STUDIO_ENGINES_DIR` (default `~/.cache/vllm-studio/engines`); the first session installs it.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.whole_system import TINY_MODEL, System
from studio.v1.recipe_pb2 import EngineChoice
from studio.v1.replica_pb2 import StartProgress
from studio_agent.environments import ensure_program

# The first test pays for the installation.
TEST_SECONDS = 1800
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.timeout(TEST_SECONDS))


@pytest.fixture(scope="session")
def engines_dir() -> Path:
    named = os.environ.get("STUDIO_ENGINES_DIR")
    return Path(named) if named else Path.home() / ".cache" / "vllm-studio" / "engines"


@pytest.fixture(scope="session")
def engine_environment(engines_dir: Path) -> Path:
    """The program `vllm` of an environment that our own code installed."""

    def report(said: StartProgress) -> None:
        # Shown when a test fails, and with `-s`.
        sys.stderr.write(f"{said.detail}\n")

    (program,) = asyncio.run(ensure_program(EngineChoice(name="vllm"), engines_dir, report))
    return Path(program)


@pytest.fixture(scope="session")
def tiny_model(engine_environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a random two-layer Llama, about 1 MB."""
    folder = tmp_path_factory.mktemp("tiny-model")
    python = engine_environment.with_name("python")
    subprocess.run([python, HERE / "tiny_model.py", folder], check=True, capture_output=True, text=True)
    return folder


@pytest.fixture(scope="session")
def system(
    engine_environment: Path, engines_dir: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    home = tmp_path_factory.mktemp("home")
    # The environment that was installed above is found, not installed again.
    (home / "engines").symlink_to(engines_dir)
    assert engine_environment.is_relative_to(engines_dir)
    system = System(home)
    system.start("--engine", "vllm", "--model", str(tiny_model), "--name", TINY_MODEL)
    try:
        system.wait_until_up(at_most_seconds=300)
        yield system
    finally:
        system.stop()
    assert system.processes() == []
