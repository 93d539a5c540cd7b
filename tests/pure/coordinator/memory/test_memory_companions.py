"""What a GPU holds beside the model itself: adapters, whoever guesses tokens, a cache in the type that the checkpoint wants."""

import json
from pathlib import Path
from typing import Any

import pytest
from fakes.checkpoints import a_config, llama_tensors, write_model
from fakes.models import LLAMA_8B
from google.protobuf.json_format import ParseDict
from studio.v1.agent_service_pb2 import ModelDescription
from studio.v1.recipe_pb2 import Recipe
from studio.v1.replica_pb2 import MeasuredMemory
from studio_coordinator.estimate_command import main
from studio_coordinator.knowledge.measurements import calibration_of
from studio_coordinator.model_facts.description import read_description
from studio_coordinator.model_facts.directory import read_directory
from studio_coordinator.plan.memory.answer import estimate
from studio_coordinator.plan.memory.draft import with_draft, with_prediction_layer
from studio_coordinator.plan.memory.estimate import estimate_vllm
from studio_coordinator.plan.memory.facts_document import from_document, to_document
from studio_coordinator.plan.memory.model import model_facts
from studio_coordinator.plan.memory.settings import Gpu, Settings
from studio_coordinator.plan.memory.sizes import GIB
from studio_coordinator.plan.sizing import draft_source, settings_of, with_speculation

H100 = Gpu(80 * GIB, "H100")
LLAMA = model_facts(LLAMA_8B)
FP8_SCHEME = {"quant_method": "compressed-tensors", "kv_cache_scheme": {"num_bits": 8, "type": "float"}}


def test_a_slot_is_as_large_as_an_adapter_of_all_projections() -> None:
    plain = estimate(LLAMA, Settings(max_model_len=4096), H100)
    with_one = estimate(LLAMA, Settings(max_model_len=4096, lora_slots=1, lora_rank=16), H100)
    # An adapter of rank 16 on every projection of Llama 3.1 8B has 41.9 million parameters; its head and embedding have 4.2.
    assert with_one.weights.bytes - plain.weights.bytes == pytest.approx(2 * (41.94e6 + 4.24e6), rel=0.01)
    with_four = estimate(LLAMA, Settings(max_model_len=4096, lora_slots=4, lora_rank=64), H100)
    assert with_four.weights.bytes - plain.weights.bytes == pytest.approx(
        16 * (with_one.weights.bytes - plain.weights.bytes)
    )
    assert with_four.kv.bytes < plain.kv.bytes


@pytest.mark.parametrize("keys", [{"num_experts": 8, "model_type": "qwen3_moe"}, {"model_type": "deepseek_v3"}, {}])
def test_slots_shrink_with_tensor_parallelism_but_never_to_their_part(keys: dict[str, Any]) -> None:
    facts = model_facts(a_config(**keys))

    def slots(ranks: int) -> int:
        with_slots = Settings(tensor_parallel=ranks, lora_slots=2, max_model_len=1024)
        without = Settings(tensor_parallel=ranks, max_model_len=1024)
        return estimate(facts, with_slots, H100).weights.bytes - estimate(facts, without, H100).weights.bytes

    assert slots(1) > slots(2) > slots(1) / 2


def test_a_draft_brings_its_weights_and_its_caches() -> None:
    draft = model_facts(a_config())
    both = with_draft(LLAMA, draft)
    assert both.weights.bytes == LLAMA.weights.bytes + draft.weights.bytes
    settings = Settings(max_model_len=4096)
    alone, together = estimate(LLAMA, settings, H100), estimate(both, settings, H100)
    assert together.kv_token_bytes > alone.kv_token_bytes
    assert together.kv_tokens < alone.kv_tokens
    assert from_document(to_document(both)) == both


def test_a_prediction_layer_keeps_one_cache_more() -> None:
    facts = with_prediction_layer(LLAMA)
    assert len(facts.caches) == len(LLAMA.caches) + 1
    settings = Settings(max_model_len=4096)
    ratio = estimate(facts, settings, H100).kv_token_bytes / estimate(LLAMA, settings, H100).kv_token_bytes
    assert ratio == pytest.approx(33 / 32)


@pytest.mark.parametrize(
    ("speculative", "source", "layers"),
    [
        ({"method": "eagle3", "model": "owner/draft", "num_speculative_tokens": 3}, "hf://owner/draft", 32),
        ({"model": "/models/draft"}, "path:///models/draft", 32),
        ({"method": "mtp", "num_speculative_tokens": 1}, "", 33),
        ({"method": "ngram", "num_speculative_tokens": 4}, "", 32),
        ({}, "", 32),
    ],
)
def test_a_recipe_says_who_guesses(speculative: dict[str, Any], source: str, layers: int) -> None:
    recipe = ParseDict({"args": {"speculative": speculative}}, Recipe())
    assert draft_source(recipe) == source
    assert with_speculation(recipe, LLAMA, None).layers == layers


@pytest.mark.parametrize(
    ("said", "slots", "rank"),
    [
        ({"lora": [{"name": "a", "source": "hf://a/b"}]}, 1, 16),
        ({"extra_args": {"enable-lora": True, "max-loras": 4, "max-lora-rank": 64}}, 4, 64),
        ({"extra_args": {"max-loras": 4}}, 0, 16),
    ],
)
def test_a_recipe_says_how_many_adapters_have_room(said: dict[str, Any], slots: int, rank: int) -> None:
    recipe = ParseDict({"engine": {"name": "vllm"}, **said}, Recipe())
    settings = settings_of(recipe, LLAMA)
    assert (settings.lora_slots, settings.lora_rank) == (slots, rank)


@pytest.mark.parametrize(
    ("quantization", "kept"),
    [
        (FP8_SCHEME, "fp8"),
        ({"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}, "fp8"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4", "kv_cache_quant_algo": "NVFP4"}, "nvfp4"),
        ({"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": None}, ""),
        ({"quant_method": "compressed-tensors", "kv_cache_scheme": None}, ""),
        ({"quant_method": "fp8"}, ""),
    ],
)
def test_auto_follows_the_type_that_the_checkpoint_wants_its_cache_kept_in(
    quantization: dict[str, Any], kept: str
) -> None:
    facts = model_facts(LLAMA_8B | {"quantization_config": quantization})
    assert facts.cache_type == kept
    per_token = estimate_vllm(facts, Settings(max_model_len=4096), H100).kv_token_bytes
    full = estimate_vllm(LLAMA, Settings(max_model_len=4096), H100).kv_token_bytes
    assert per_token / full == pytest.approx({"fp8": 0.5, "nvfp4": 0.28125, "": 1.0}[kept])
    asked = estimate_vllm(facts, Settings(max_model_len=4096, kv_cache_type="bfloat16"), H100)
    assert asked.kv_token_bytes == full, "what an operator asks for wins"


def test_what_modelopt_writes_beside_the_config_counts_as_said_in_it(tmp_path: Path) -> None:
    config = a_config()
    write_model(tmp_path, config, llama_tensors(config))
    said = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(said))
    assert read_directory(tmp_path).cache_type == "fp8"
    files = {name: (tmp_path / name).read_bytes() for name in ("config.json", "hf_quant_config.json")}
    assert read_description(ModelDescription(files=files)).cache_type == "fp8"


@pytest.mark.parametrize(("group", "width"), [(16, 0.5625), (32, 0.53125)])
def test_four_bit_floats_have_a_scale_of_eight_bits_for_each_group(group: int, width: float) -> None:
    weights = {"num_bits": 4, "type": "float", "group_size": group}
    quantization = {"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": weights}}}
    quantized = model_facts(LLAMA_8B | {"quantization_config": quantization}).weights.layers[0].bytes
    assert quantized / LLAMA.weights.layers[0].bytes == pytest.approx(width / 2, rel=0.001)


def test_what_the_driver_shows_beyond_what_the_engine_counts_is_the_context() -> None:
    counted = {"weights_bytes": 10 * GIB, "activation_bytes": GIB, "kv_bytes": 20 * GIB}
    seen = MeasuredMemory(**counted, gpu_peak_bytes=33 * GIB)
    (settings, calibration) = Settings(max_model_len=4096), calibration_of(seen, seen)
    assert estimate(LLAMA, settings, H100, calibration).context.bytes == 2 * GIB
    low = MeasuredMemory(**counted, gpu_peak_bytes=31 * GIB + 1)
    assert estimate(LLAMA, settings, H100, calibration_of(low, low)).context.bytes > GIB // 4, (
        "a prediction above it stays"
    )
    alone = MeasuredMemory(gpu_peak_bytes=33 * GIB)
    assert not calibration_of(alone, alone).parts, "a sum alone says nothing of its parts"


def test_the_command_takes_a_draft_and_adapters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = a_config()
    size = write_model(tmp_path, config, llama_tensors(config))
    ask = ["--model", str(tmp_path), "--gpu-memory-gib", "24", "-o", "json"]
    assert main(ask) == 0
    alone = json.loads(capsys.readouterr().out)
    assert main([*ask, "--draft-model", str(tmp_path), "--max-loras", "2", "--max-lora-rank", "8"]) == 0
    more = json.loads(capsys.readouterr().out)
    assert more["weights_gib"] > alone["weights_gib"] + size / GIB * 0.99
    assert more["kv_bytes_per_token"] == 2 * alone["kv_bytes_per_token"]
