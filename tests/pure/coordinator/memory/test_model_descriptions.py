"""A model described by an agent gives the facts that reading its directory gives; and facts survive being kept."""

import json
import struct
from pathlib import Path

import pytest
from fakes.checkpoints import a_config, llama_tensors, write_gguf, write_model
from hypothesis import given
from hypothesis import strategies as st
from studio.v1.agent_service_pb2 import ModelDescription
from studio_agent.models.description import LARGEST_DESCRIPTION_BYTES, describe_model
from studio_agent.models.errors import ModelDiskError
from studio_coordinator.model_facts.description import read_description
from studio_coordinator.model_facts.directory import read_directory
from studio_coordinator.model_facts.errors import ModelUnreadableError
from studio_coordinator.plan.memory.facts import ModelFacts
from studio_coordinator.plan.memory.facts_document import from_document, to_document
from studio_coordinator.plan.memory.model import model_facts
from studio_coordinator.plan.memory.parts import Source


def kept(facts: ModelFacts) -> ModelFacts | None:
    return from_document(json.loads(json.dumps(to_document(facts))))


def test_a_description_says_what_the_directory_says(tmp_path: Path) -> None:
    config = a_config()
    write_model(tmp_path, config, llama_tensors(config))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"not the model's own")
    assert read_description(describe_model(tmp_path)) == read_directory(tmp_path)


def test_of_shards_those_that_the_index_names_are_read_and_none_outside_of_the_folder(tmp_path: Path) -> None:
    model, config = tmp_path / "model", a_config()
    size = write_model(model, config, llama_tensors(config))
    shard = model / "model-00001-of-00001.safetensors"
    (model / "model.safetensors").rename(shard)
    write_model(tmp_path / "secret", config, {"x": ("BF16", (1,))})
    names = {"a": shard.name, "b": "../secret/model.safetensors"}
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    described = describe_model(model)
    assert list(described.tensor_headers) == [shard.name]
    assert read_description(described).weights.bytes == size


def test_a_shard_that_is_missing_leaves_the_sizes_of_the_files(tmp_path: Path) -> None:
    config = a_config()
    write_model(tmp_path, config, llama_tensors(config))
    (tmp_path / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "model.safetensors", "b": "gone.safetensors"}})
    )
    described = describe_model(tmp_path)
    assert not described.tensor_headers
    facts = read_description(described)
    assert facts.weights.bytes == (tmp_path / "model.safetensors").stat().st_size
    assert facts.weights.source is Source.GIVEN


def test_a_header_that_is_too_long_to_be_sent_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(a_config()))
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", LARGEST_DESCRIPTION_BYTES + 1))
        file.truncate(LARGEST_DESCRIPTION_BYTES + 100)
    described = describe_model(tmp_path)
    assert not described.tensor_headers
    assert described.ByteSize() < 4096


def test_a_gguf_header_is_read_from_what_was_sent(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    metadata = {
        "general.architecture": "llama",
        "llama.block_count": 1,
        "llama.embedding_length": 64,
        "llama.attention.head_count": 4,
        "llama.vocab_size": 100,
    }
    write_gguf(path, metadata, {"token_embd.weight": (1, (64, 100)), "blk.0.attn_q.weight": (1, (64, 64))})
    described = ModelDescription(tensor_headers={path.name: path.read_bytes()})
    assert read_description(described) == read_directory(path)


GGUF_METADATA = {
    "general.architecture": "llama",
    "llama.block_count": 1,
    "llama.embedding_length": 64,
    "llama.attention.head_count": 4,
    "tokenizer.chat_template": "{{ messages }}" * 1000,
    "tokenizer.ggml.tokens": [f"token {number}" for number in range(5000)],
}
GGUF_TENSORS = {"token_embd.weight": (1, (64, 5000)), "blk.0.attn_q.weight": (1, (64, 64))}


def test_of_a_gguf_file_an_agent_sends_what_says_something_about_memory(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write_gguf(path, GGUF_METADATA, GGUF_TENSORS)
    for source in (path, tmp_path):
        described = describe_model(source)
        assert dict(described.sizes) == {path.name: path.stat().st_size}
        assert described.ByteSize() < 1024
        assert read_description(described) == read_directory(path)
        assert read_description(described).vocabulary == 5000


def test_of_a_split_gguf_all_parts_are_sent_and_of_several_copies_one(tmp_path: Path) -> None:
    parts = ["a[x]-00001-of-00002.gguf", "a[x]-00002-of-00002.gguf"]
    for name, tensor in zip(parts, GGUF_TENSORS, strict=True):
        write_gguf(tmp_path / name, GGUF_METADATA, {tensor: GGUF_TENSORS[tensor]})
    write_gguf(tmp_path / "b.gguf", GGUF_METADATA, GGUF_TENSORS)
    for source in (tmp_path, tmp_path / parts[1]):
        assert sorted(describe_model(source).tensor_headers) == parts
    assert list(describe_model(tmp_path / "b.gguf").tensor_headers) == ["b.gguf"]


def test_a_gguf_file_cut_anywhere_is_refused_and_nothing_else_happens(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write_gguf(path, GGUF_METADATA | {"tokenizer.ggml.tokens": ["a"]}, GGUF_TENSORS)
    whole = path.read_bytes()
    for length in (*range(0, len(whole), 7), len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelDiskError, match=r"damaged"):
            describe_model(path)


@given(at=st.integers(4, 200), value=st.integers(0, 255))
def test_a_gguf_file_that_lies_is_refused_or_read(
    at: int, value: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    write_gguf(path, GGUF_METADATA | {"tokenizer.ggml.tokens": ["a"]}, GGUF_TENSORS)
    whole = bytearray(path.read_bytes())
    whole[at] = value
    path.write_bytes(whole)
    try:
        assert describe_model(path).ByteSize() < len(whole) + 1024
    except ModelDiskError:
        return


@pytest.mark.parametrize("config", [b"{", b"[1]"])
def test_what_is_no_configuration_is_refused(config: bytes) -> None:
    with pytest.raises(ModelUnreadableError, match=r"config\.json is not"):
        read_description(ModelDescription(files={"config.json": config}))


def test_nothing_at_all_is_refused() -> None:
    with pytest.raises(ModelUnreadableError, match="neither"):
        read_description(ModelDescription(sizes={"readme.md": 3}))


@given(content=st.binary(max_size=200))
def test_a_damaged_header_is_refused_and_nothing_else_happens(content: bytes) -> None:
    for name in ("model.safetensors", "model.gguf"):
        try:
            read_description(ModelDescription(tensor_headers={name: content}))
        except ModelUnreadableError:
            continue
        raise AssertionError(f"{content!r} was taken for a header of {name}")


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"kv_lora_rank": 64, "qk_rope_head_dim": 16, "qk_nope_head_dim": 32, "v_head_dim": 32},
        {"sliding_window": 128, "layer_types": ["sliding_attention", "full_attention"] * 2},
        {"num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64},
        {"architectures": ["NobodyKnowsForCausalLM"], "vocab_size": None},
    ],
    ids=["plain", "latent", "window", "experts", "unknown"],
)
def test_facts_survive_being_kept(keys: dict[str, object]) -> None:
    facts = model_facts(a_config(**keys))
    assert kept(facts) == facts


@pytest.mark.parametrize("damage", ["drop", "add", "kind", "source"])
def test_a_document_of_another_release_is_read_again(damage: str) -> None:
    document = to_document(model_facts(a_config()))
    if damage == "drop":
        del document["rope_elements"]
    elif damage == "add":
        document["colour"] = "blue"
    elif damage == "kind":
        document["caches"][0][0]["kind"] = "quantum"
    else:
        document["weights"]["source"] = "hearsay"
    assert from_document(document) is None
