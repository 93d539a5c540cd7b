"""The command as it is typed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fakes.checkpoints import a_config, llama_tensors, write_model
from studio_coordinator.estimate_command import main, quantity
from studio_coordinator.plan.memory.engine_rules import TESTED_VERSION, parse_version, vllm_rules

KEYS = [
    "weights_gib",
    "kv_bytes_per_token",
    "activation_gib",
    "graphs_gib",
    "context_gib",
    "kv_gib",
    "kv_tokens",
    "max_concurrency",
    "max_model_len_that_fits",
]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    config = a_config()
    write_model(tmp_path / "model", config, llama_tensors(config))
    return tmp_path / "model"


def test_json_has_exactly_the_documented_keys(model: Path):
    flags = (
        "--gpu-memory-gib 79.19 --engine vllm==0.19.0 --tp 2 --pp 2 --max-model-len 2k --gpu-memory-utilization 0.95"
    )
    more = "--kv-cache-dtype fp8 --max-num-seqs 128 --max-num-batched-tokens 4096 -o json"
    answer = subprocess.run(
        [sys.executable, "-m", "studio_coordinator.estimate_command", "--model", model, *flags.split(), *more.split()],
        capture_output=True,
        text=True,
        check=True,
    )
    figures = json.loads(answer.stdout)
    assert list(figures) == KEYS
    assert figures["kv_bytes_per_token"] == 2 * 1 * 64 * 1
    assert all(value > 0 for value in figures.values())


def test_weights_that_are_not_there_are_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "config.json").write_text(json.dumps(a_config()))
    arguments = ["--model", str(tmp_path), "--gpu-memory-gib", "24", "--weights-bytes", "1GiB", "-o", "json"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["weights_gib"] == pytest.approx(1.0, abs=0.001)


def test_an_adapter_widens_the_slots_to_its_rank(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    header = b'{"q_proj.lora_A.weight": {"dtype": "BF16", "shape": [64, 8], "data_offsets": [0, 1024]}}'
    (tmp_path / "adapter_model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(1024))
    (tmp_path / "adapter_config.json").write_text('{"r": 64}')
    asked = ["--model", str(model), "--gpu-memory-gib", "24", "--explain"]
    assert main([*asked, "--lora", str(tmp_path)]) == 0
    by_adapter = capsys.readouterr().out
    assert main([*asked, "--max-loras", "1", "--max-lora-rank", "64"]) == 0
    assert by_adapter == capsys.readouterr().out
    assert "1 LoRA slots of rank 64" in by_adapter


def test_explain_shows_every_part_its_source_and_the_flags(model: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["--model", str(model), "--gpu-memory-gib", "24", "--explain"]) == 0
    shown = capsys.readouterr().out
    for word in ("context", "weights", "buffers", "activation", "graphs", "measured", "fitted", "longest context"):
        assert word in shown
    assert "smallest split: tensor parallel 1, pipeline parallel 1" in shown
    assert "--kv-cache-memory-bytes" in shown
    assert "--gpu-memory-utilization" in shown


def test_sglang_gets_its_own_flag(model: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["--model", str(model), "--gpu-memory-gib", "24", "--engine", "sglang", "--explain"]) == 0
    assert "--mem-fraction-static" in capsys.readouterr().out


def test_what_is_unknown_and_why_it_would_not_start_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "config.json").write_text("{}")
    assert main(["--model", str(tmp_path), "--weights-bytes", "30GiB", "--gpu-memory-gib", "24", "-o", "json"]) == 0
    said = capsys.readouterr()
    assert "Unknown: number of layers or hidden size" in said.err
    assert "Would not start: weights and activations leave nothing for the KV cache" in said.err
    assert json.loads(said.out)["kv_tokens"] == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tp", "3"], "8 attention heads cannot be divided by 3"),
        (["--engine", "tabbyapi"], "no memory rules for engine 'tabbyapi'"),
        (["--engine", "vllm==0.32.0+cpu"], "on a CPU the KV cache takes what it is given"),
    ],
)
def test_a_question_without_an_answer_is_refused(
    model: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
):
    assert main(["--model", str(model), "--gpu-memory-gib", "24", *flags]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags",
    [
        ("--tp", "0"),
        ("--dp", "-1"),
        ("--gpu-memory-gib", "nan"),
        ("--gpu-memory-gib", "0"),
        ("--gpu-memory-utilization", "2"),
    ],
)
def test_a_flag_that_makes_no_sense_is_named(model: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, str]):
    with pytest.raises(SystemExit):
        main(["--model", str(model), "--gpu-memory-gib", "24", *flags])
    assert flags[0] in capsys.readouterr().err


def test_a_version_without_a_number_follows_the_newest_rules():
    assert vllm_rules(parse_version("nightly")) == vllm_rules(parse_version(TESTED_VERSION["vllm"]))


def test_quantities_are_read_as_people_write_them():
    assert [quantity(text) for text in ("8192", "32k", "1.5GiB", "2 MiB")] == [8192, 32_000, 3 << 29, 2 << 20]
