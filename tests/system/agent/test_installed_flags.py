"""Engine programs asked for their flags: real processes that answer, fail, hang, or change."""

import json
import os
import sys
from pathlib import Path

import pytest
from studio_agent.engines.flag_list import Takes
from studio_agent.engines.inquiry import installed_flags
from studio_agent.engines.inquiry.installed_flags import flags_of, kept_flags_of

# The llama.cpp kind of program, and how often it was asked.
LLAMA_SERVER = """#!/bin/sh
echo asked >> "$(dirname "$0")/asked"
echo '--threads N                             number of CPU threads'
echo '--mlock                                 keep the model in RAM'
exit {code}
"""

# What TabbyAPI's own module looks like to the script: a model that describes itself.
CONFIG_MODELS = """
class TabbyConfigModel:
    @staticmethod
    def model_json_schema(ref_template):
        model = {"properties": {
            "cache_size": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            "vision": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
            "gpu_split": {"type": "array"},
        }}
        network = {"properties": {"port": {"type": "integer"}}}
        return {"$defs": {"ModelConfig": model, "NetworkConfig": network},
                "properties": {"model": {"anyOf": [{"$ref": "ModelConfig"}, {"type": "null"}]},
                               "network": {"$ref": "NetworkConfig"}}}
"""

SERVER_ARGS = """
import argparse

class ServerArgs:
    @staticmethod
    def add_cli_args(parser):
        print("something said while importing")
        parser.add_argument("--tp-size", "--tensor-parallel-size", type=int)
        parser.add_argument("--enable-metrics", action="store_true")
        parser.add_argument("--lora-strict-loading", action=argparse.BooleanOptionalAction)
        parser.add_argument("--lora-paths", nargs="*")
        parser.add_argument("-x")
"""


def a_llama_server(folder: Path, code: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "llama-server"
    program.write_text(LLAMA_SERVER.format(code=code))
    program.chmod(0o755)
    return program


def times_asked(program: Path) -> int:
    return len(program.with_name("asked").read_text().splitlines())


def answers_kept(folder: Path) -> list[Path]:
    return list(folder.glob("flags-*"))


def is_running(pid_file: Path) -> bool:
    return pid_file.exists() and Path(f"/proc/{pid_file.read_text().strip()}").exists()


async def test_a_program_is_asked_once_until_it_changes(tmp_path: Path):
    program = a_llama_server(tmp_path / "bin")
    for _ in range(2):
        flags = await flags_of("llamacpp", (str(program),), tmp_path)
        assert flags is not None
        assert {(flag.names, flag.takes) for flag in flags.flags} == {
            (("threads",), Takes.VALUE),
            (("mlock",), Takes.SWITCH),
        }
    assert times_asked(program) == 1
    os.utime(program, (1, 1))
    assert await flags_of("llamacpp", (str(program),), tmp_path) is not None
    assert times_asked(program) == 2


async def test_what_was_said_before_is_known_without_asking(tmp_path: Path):
    program = a_llama_server(tmp_path / "bin")
    assert await kept_flags_of("llamacpp", (str(program),), tmp_path) is None
    said = await flags_of("llamacpp", (str(program),), tmp_path)
    kept = await kept_flags_of("llamacpp", (str(program),), tmp_path)
    assert kept is not None
    assert said is not None
    assert kept.flags == said.flags
    assert times_asked(program) == 1
    os.utime(program, (1, 1))
    assert await kept_flags_of("llamacpp", (str(program),), tmp_path) is None


async def test_a_damaged_answer_that_was_kept_is_asked_anew(tmp_path: Path):
    program = a_llama_server(tmp_path / "bin")
    await flags_of("llamacpp", (str(program),), tmp_path)
    (kept,) = answers_kept(tmp_path)
    kept.write_text(kept.read_text()[:-5])
    assert await flags_of("llamacpp", (str(program),), tmp_path) is not None
    assert times_asked(program) == 2
    json.loads(kept.read_text())


async def test_a_program_that_fails_says_nothing_and_nothing_is_kept(tmp_path: Path):
    program = a_llama_server(tmp_path / "bin", code=1)
    assert await flags_of("llamacpp", (str(program),), tmp_path) is None
    assert not answers_kept(tmp_path)


async def test_a_program_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(installed_flags, "ASK_SECONDS", 0.2)
    program = tmp_path / "llama-server"
    program.write_text(f'#!/bin/sh\necho $$ > "{tmp_path}/pid"\nexec sleep 600\n')
    program.chmod(0o755)
    assert await flags_of("llamacpp", (str(program),), tmp_path) is None
    assert not is_running(tmp_path / "pid")


@pytest.mark.parametrize("engine", ["llamacpp", "vllm", "sglang", "tabbyapi", "demo"])
async def test_a_program_that_is_not_there_says_nothing(engine: str, tmp_path: Path):
    assert await flags_of(engine, (str(tmp_path / "missing"),), tmp_path) is None


async def test_an_answer_that_cannot_be_kept_is_an_answer(tmp_path: Path):
    program = a_llama_server(tmp_path / "bin")
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert await flags_of("llamacpp", (str(program),), blocked / "below") is not None


async def test_the_checkout_of_tabbyapi_lists_its_keys_by_section(tmp_path: Path):
    checkout = tmp_path / "tabbyAPI"
    (checkout / "common").mkdir(parents=True)
    (checkout / "common" / "config_models.py").write_text(CONFIG_MODELS)
    python = checkout / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    flags = await flags_of("tabbyapi", (str(python),), tmp_path)
    assert flags is not None
    assert {(flag.section, flag.names[0], flag.takes) for flag in flags.flags} == {
        ("model", "cache-size", Takes.VALUE),
        ("model", "vision", Takes.TOGGLE),
        ("model", "gpu-split", Takes.LIST),
        ("network", "port", Takes.VALUE),
    }
    # Another version of the checkout has the same interpreter.
    (checkout / "common" / "config_models.py").write_text(CONFIG_MODELS.replace("vision", "sight"))
    renewed = await flags_of("tabbyapi", (str(python),), tmp_path)
    assert renewed is not None
    assert renewed.get("sight") is not None


async def test_an_engine_in_python_is_asked_by_its_own_interpreter(tmp_path: Path):
    site = tmp_path / "site"
    for package in ("sglang", "sglang/srt"):
        (site / package).mkdir(parents=True)
        (site / package / "__init__.py").write_text("")
    (site / "sglang" / "srt" / "server_args.py").write_text(SERVER_ARGS)
    folder = tmp_path / "bin"
    folder.mkdir()
    python = folder / "python3.11"
    # An interpreter that has the engine, as a virtual environment's has.
    python.write_text(
        f'#!/bin/sh\nshift\nexec {sys.executable} -c \'import runpy, sys; sys.path.insert(0, "{site}"); '
        'sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name="__main__")\' "$@"\n'
    )
    python.chmod(0o755)
    program = folder / "sglang"
    program.write_text(f"#!{python}\nimport sys\n")
    flags = await flags_of("sglang", (str(program),), tmp_path)
    assert flags is not None
    assert {(flag.names, flag.takes, flag.off) for flag in flags.flags} == {
        (("tp-size", "tensor-parallel-size"), Takes.VALUE, ""),
        (("enable-metrics",), Takes.SWITCH, ""),
        (("lora-strict-loading",), Takes.TOGGLE, "no-lora-strict-loading"),
        (("lora-paths",), Takes.LIST, ""),
    }
