"""Bad input gets a clear error and loses nothing."""

import os
import socket
from pathlib import Path

import pytest
from fakes.whole_system import System

MALFORMED = """
kind: Recipe
name: "no spaces, please"
engine: {name: vlm}
model: {source: Qwen/Qwen3-8B}
args: {max_model_len: many, tensor_paralel: 2}
---
kind: Deployment
name: chat
recipe: chat
replicas: {min: 3, max: 1}
"""


def test_a_malformed_recipe_names_every_problem_with_its_path_at_once(system: System, tmp_path: Path) -> None:
    before = system.listed("recipes", "list"), system.listed("deployments", "list")
    file = tmp_path / "bad.yaml"
    file.write_text(MALFORMED)
    done = system.studio("apply", "-f", str(file), check=False)
    assert done.returncode == 2
    for path in ("name", "engine.name", "model.source", "args.max_model_len", "args.tensor_paralel", "replicas.max"):
        assert path in done.stderr
    assert "did you mean tensor_parallel" in done.stderr
    assert "did you mean vllm" in done.stderr
    assert (system.listed("recipes", "list"), system.listed("deployments", "list")) == before


def test_an_unknown_engine_is_refused_with_the_known_ones(system: System) -> None:
    text = "kind: Recipe\nname: x\nengine: {name: ollama}\nmodel: {source: hf://a/b}\n"
    done = system.studio("apply", "-f", "-", check=False, stdin=text)
    assert done.returncode == 2
    assert "vllm, sglang, tabbyapi, llamacpp, demo" in done.stderr


def test_a_second_up_on_one_home_is_refused_and_names_the_first(system: System) -> None:
    process = system.process
    second = System(system.home)
    second.start()
    assert second.process is not None
    output, _ = second.process.communicate(timeout=30)
    assert second.process.returncode == 5
    assert str(process.pid if process else "?") in output
    assert "studio down" in output
    system.ready_replica()


@pytest.mark.parametrize("which", ["gateway", "coordinator"])
def test_a_taken_port_is_named_with_its_option_and_nothing_is_started(tmp_path: Path, which: str) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        system = System(tmp_path / "home", **{f"{which}_port": port})
        process = system.start()
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert str(port) in output
    assert f"--{which}-port" in output
    assert str(os.getpid()) in output
    assert system.processes() == []


def test_a_missing_model_directory_is_said_at_once(tmp_path: Path) -> None:
    system = System(tmp_path / "home")
    process = system.start("--engine", "vllm", "--model", str(tmp_path / "nowhere"))
    output, _ = process.communicate(timeout=30)
    assert process.returncode != 0
    assert str(tmp_path / "nowhere") in output
    assert system.processes() == []


def test_an_unreachable_database_is_said_and_nothing_stays(tmp_path: Path) -> None:
    system = System(tmp_path / "home")
    system.environment["STUDIO_DATABASE_URL"] = "postgresql://studio:hunter2@127.0.0.1:1/studio"
    process = system.start()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "the database does not answer" in output
    assert "STUDIO_DATABASE_URL" in output
    assert "hunter2" not in output
    assert system.processes() == []


def test_a_cli_without_a_coordinator_says_where_it_looked(tmp_path: Path) -> None:
    system = System(tmp_path / "home")
    done = system.studio("ps", "--coordinator", "127.0.0.1:1", check=False)
    assert done.returncode == 6
    assert "127.0.0.1:1" in done.stderr
