"""Model facts from real files: safetensors headers, their index, GGUF, LoRA adapters, and a hub over HTTP."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from fakes.checkpoints import a_config, llama_tensors, safetensors_header, write_gguf, write_model
from fakes.hub import hub
from hypothesis import given, settings
from hypothesis import strategies as st
from studio_coordinator.model_facts.adapter import read_adapter
from studio_coordinator.model_facts.directory import read_directory
from studio_coordinator.model_facts.errors import ModelUnreadableError
from studio_coordinator.model_facts.hub import HubReader
from studio_coordinator.model_facts.safetensors_header import parse_header
from studio_coordinator.plan.memory.facts import AttentionCache
from studio_coordinator.plan.memory.model import model_facts
from studio_coordinator.plan.memory.parts import Source

# The machine may be busy with other tests.
PATIENT = settings(deadline=None)


def test_tensors_and_counting_agree_on_a_plain_decoder(tmp_path: Path):
    for tied in (False, True):
        config = a_config(tie_word_embeddings=tied)
        size = write_model(tmp_path / str(tied), config, llama_tensors(config))
        stored, counted = read_directory(tmp_path / str(tied)), model_facts(config)
        assert stored.weights.bytes == size
        assert stored.weights.source is Source.MEASURED
        assert stored.weights.embedding_bytes == counted.weights.embedding_bytes
        assert stored.weights.head_bytes == counted.weights.head_bytes
        assert counted.weights.bytes == pytest.approx(size, rel=0.001)
        for one, other in zip(stored.weights.layers, counted.weights.layers, strict=True):
            assert (one.split_bytes, one.key_value_bytes) == (other.split_bytes, other.key_value_bytes)


def test_a_tied_head_that_is_stored_anyway_is_not_loaded(tmp_path: Path):
    config = a_config(tie_word_embeddings=True)
    tensors = llama_tensors(config) | {"lm_head.weight": ("BF16", (1024, 256))}
    size = write_model(tmp_path, config, tensors)
    assert read_directory(tmp_path).weights.bytes == size - 1024 * 256 * 2


def test_experts_towers_and_prediction_layers_go_to_their_places(tmp_path: Path):
    config = a_config(num_local_experts=2, num_experts_per_tok=1)
    tensors = llama_tensors(config) | {
        "model.layers.0.mlp.experts.0.up_proj.weight": ("BF16", (512, 256)),
        "model.layers.0.mlp.shared_experts.up_proj.weight": ("BF16", (512, 256)),
        "model.layers.4.eh_proj.weight": ("BF16", (256, 512)),
        "vision_tower.encoder.layers.0.mlp.fc1.weight": ("BF16", (512, 256)),
        "model.layers.1.mlp.down_proj.weight_scale": ("F32", (256, 1)),
    }
    size = write_model(tmp_path, config, tensors)
    weights = read_directory(tmp_path).weights
    assert weights.layers[0].expert_bytes == 512 * 256 * 2
    assert weights.tower_bytes == 512 * 256 * 2
    assert weights.bytes == size - 256 * 512 * 2


def test_what_config_leaves_out_shows_in_the_tensors(tmp_path: Path):
    config = a_config()
    tensors = llama_tensors(config)
    for key in ("num_hidden_layers", "hidden_size", "vocab_size", "num_key_value_heads", "tie_word_embeddings"):
        del config[key]
    write_model(tmp_path, config, tensors)
    facts = read_directory(tmp_path)
    assert (facts.layers, facts.hidden_size, facts.kv_heads) == (4, 256, 2)
    assert facts.caches[0] == (AttentionCache(2, 32, 32),)
    assert facts.weights.head_bytes > 0
    assert facts.unknown == ()


def test_a_total_from_the_index_or_from_the_caller_replaces_counting(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps(a_config()))
    counted = read_directory(tmp_path).weights
    assert counted.source is Source.FORMULA
    index = {"metadata": {"total_size": 10_000_000}, "weight_map": {"a": "model-00001-of-00001.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert read_directory(tmp_path).weights.bytes == 10_000_000
    given_total = read_directory(tmp_path, weight_bytes=9_000_000).weights
    assert (given_total.bytes, given_total.source) == (9_000_000, Source.GIVEN)
    assert given_total.embedding_bytes == counted.embedding_bytes


def test_shards_are_read_together(tmp_path: Path):
    config = a_config()
    tensors = llama_tensors(config)
    size = write_model(tmp_path, config, tensors)
    (tmp_path / "model.safetensors").unlink()
    names = sorted(tensors)
    weight_map = {}
    for number, part in enumerate((names[:10], names[10:])):
        header, held = safetensors_header({name: tensors[name] for name in part})
        file = tmp_path / f"model-{number}.safetensors"
        file.write_bytes(struct.pack("<Q", len(header)) + header + bytes(held))
        weight_map |= dict.fromkeys(part, file.name)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    assert read_directory(tmp_path).weights.bytes == size


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "too short"),
        (b"\xff" * 8, "does not begin with a safetensors header"),
        (struct.pack("<Q", 2) + b"[]", "damaged"),
        (struct.pack("<Q", 20) + b'{"a": {"dtype": "F32"', "damaged"),
    ],
)
def test_a_damaged_file_is_refused_with_what_to_do(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelUnreadableError, match=message) as refused:
        read_directory(tmp_path)
    assert refused.value.hint == "Download it again."


@PATIENT
@given(st.binary(max_size=200))
def test_any_bytes_are_a_header_or_a_refusal(content: bytes):
    try:
        parse_header(content, "file")
    except ModelUnreadableError:
        return


def test_an_empty_directory_and_a_missing_one_are_refused(tmp_path: Path):
    with pytest.raises(ModelUnreadableError, match="nor weights"):
        read_directory(tmp_path)
    with pytest.raises(ModelUnreadableError, match="no directory"):
        read_directory(tmp_path / "absent")


def test_gguf_metadata_speaks_the_words_of_a_config(tmp_path: Path):
    path = tmp_path / "model-Q4_K_M.gguf"
    metadata: dict[str, Any] = {
        "general.architecture": "llama",
        "llama.block_count": 2,
        "llama.embedding_length": 256,
        "llama.feed_forward_length": 512,
        "llama.attention.head_count": 8,
        "llama.attention.head_count_kv": 2,
        "llama.context_length": 4096,
        "tokenizer.ggml.tokens": ["a", "b", "c", "d"],
    }
    tensors = {"token_embd.weight": (12, (256, 4)), "output.weight": (14, (256, 4))}
    for layer in range(2):
        tensors[f"blk.{layer}.attn_k.weight"] = (12, (256, 64))
        tensors[f"blk.{layer}.ffn_up.weight"] = (12, (256, 512))
        tensors[f"blk.{layer}.attn_norm.weight"] = (0, (256,))
    write_gguf(path, metadata, tensors)
    facts = read_directory(path)
    assert (facts.layers, facts.kv_heads, facts.vocabulary, facts.max_positions) == (2, 2, 4, 4096)
    layer = facts.weights.layers[0]
    assert layer.key_value_bytes == 256 * 64 // 256 * 144
    assert layer.split_bytes == 256 * 512 // 256 * 144
    assert layer.whole_bytes == 256 * 4
    assert facts.weights.head_bytes == 4 * 210
    assert read_directory(tmp_path).weights == facts.weights


def test_a_damaged_gguf_is_refused(tmp_path: Path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + b"\x01")
    with pytest.raises(ModelUnreadableError, match="damaged"):
        read_directory(path)


def test_an_adapter_is_read_for_its_rank_and_size(tmp_path: Path):
    tensors = {
        "base.layers.0.q_proj.lora_A.weight": ("BF16", (8, 256)),
        "base.layers.0.q_proj.lora_B.weight": ("BF16", (256, 8)),
    }
    header, size = safetensors_header(tensors)
    (tmp_path / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(size))
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 8, "base_model_name_or_path": "a/b"}))
    adapter = read_adapter(tmp_path)
    assert (adapter.rank, adapter.bytes, adapter.base_model) == (8, size, "a/b")
    with pytest.raises(ModelUnreadableError):
        read_adapter(tmp_path / "absent")


def test_a_hub_is_read_by_range_and_asked_once_per_revision(tmp_path: Path):
    config = a_config()
    size = write_model(tmp_path / "served", config, llama_tensors(config))
    with hub(tmp_path / "served", "owner/name", "a" * 40) as served:
        reader = HubReader(tmp_path / "cache", endpoint=served.url, timeout_seconds=5)
        facts = reader.read("owner/name")
        assert facts.weights.bytes == size
        assert facts.weights.source is Source.MEASURED
        assert served.weight_bytes_sent < size / 2
        before = len(served.requests)
        assert reader.read("owner/name", "a" * 40) == facts
        assert len(served.requests) == before
        assert reader.read("owner/name", "main") == facts
        assert len(served.requests) == before + 1
        with pytest.raises(ModelUnreadableError, match="the hub has no owner/absent"):
            reader.read("owner/absent")


@pytest.mark.parametrize(
    ("asked", "expected"), [("owner/name:Q8_0", "big"), ("owner/name", "small"), ("owner/name:q4_k_m", "small")]
)
def test_gguf_files_of_a_hub_are_read_by_range(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, expected: str
):
    # The header is longer than what is asked for first.
    monkeypatch.setattr("studio_coordinator.model_facts.hub_gguf.FIRST_BYTES", 256)
    served_dir = tmp_path / "served"
    served_dir.mkdir()
    widths = {"model-Q4_K_M.gguf": 64, "model-Q8_0.gguf": 128}
    metadata = {
        "general.architecture": "llama",
        "llama.block_count": 1,
        "llama.embedding_length": 64,
        "llama.attention.head_count": 4,
        "tokenizer.ggml.tokens": [f"token {number}" for number in range(500)],
    }
    for name, width in widths.items():
        write_gguf(served_dir / name, metadata, {"blk.0.attn_q.weight": (1, (width, 64))})
        with (served_dir / name).open("ab") as file:
            file.write(bytes(1_000_000))
    with hub(served_dir, "owner/name", "a" * 40) as served:
        facts = HubReader(tmp_path / "cache", endpoint=served.url, timeout_seconds=5).read(asked)
        width = 128 if expected == "big" else 64
        assert facts.weights.bytes == width * 64 * 2
        assert served.weight_bytes_sent < 100_000
        with pytest.raises(ModelUnreadableError, match="no Q2_K"):
            HubReader(tmp_path / "cache", endpoint=served.url, timeout_seconds=5).read("owner/name:Q2_K")
