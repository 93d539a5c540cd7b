"""The small parts of placement: names, minimums, topology, and what the driver measured."""

import pytest
from builders import GIB, a_gpu, a_host, a_recipe
from studio.v1.recipe_pb2 import EngineChoice, GpuRequest, IntOrAuto, ModelSource, Resources
from studio_coordinator.plan.engine_minimums import MINIMUM_OF_NONE, MINIMUMS, Minimum, minimum_for, numbers
from studio_coordinator.plan.fleet import Fleet
from studio_coordinator.plan.gpus import devices_of, measured_shares
from studio_coordinator.plan.memory.answer import estimate
from studio_coordinator.plan.memory.model import model_facts
from studio_coordinator.plan.memory.settings import Gpu, Settings
from studio_coordinator.plan.names import counted, listed, ranges
from studio_coordinator.plan.occupancy import Held
from studio_coordinator.plan.sizing import GpuKind, OnKind, Sizing
from studio_coordinator.plan.topology import domains, narrow
from studio_coordinator.plan.wish import GpuNeed, Wish, gpu_need, weights_key

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 1000,
    "max_position_embeddings": 512,
    "torch_dtype": "bfloat16",
}
KIND = GpuKind("NVIDIA H100 80GB HBM3", 80 * GIB)
KNOWN = Sizing({KIND: OnKind(estimate(model_facts(CONFIG), Settings(), Gpu(KIND.memory_bytes)), 7, 0)})


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["gpu-01"], "gpu-01"),
        (["gpu-03", "gpu-01", "gpu-02"], "gpu-01..03"),
        (["gpu-01", "gpu-02", "gpu-04"], "gpu-01..02, gpu-04"),
        (["h9", "h10", "h11"], "h9..11"),
        (["h09", "h10"], "h09..10"),
        (["lab", "desk"], "desk, lab"),
        (["a1", "b2"], "a1, b2"),
        ([f"h{number}" for number in range(0, 20, 2)], "h0, h2, h4, h6 and 6 more"),
    ],
)
def test_consecutive_names_are_told_as_a_range(names: list[str], told: str) -> None:
    assert ranges(names) == told


def test_few_names_are_listed_and_many_are_counted() -> None:
    assert listed(["a"]) == "a"
    assert listed(["a", "b"]) == "a and b"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(["a", "b", "c", "d"]) == "a, b and 2 more"
    assert (counted(1, "GPU"), counted(2, "GPU")) == ("1 GPU", "2 GPUs")


@pytest.mark.parametrize(
    ("text", "version"),
    [("0.19.0", (0, 19, 0)), ("0.19.1rc1", (0, 19, 1)), ("580.65.06", (580, 65, 6)), ("", ()), ("main", ())],
)
def test_versions_are_read_by_their_numbers(text: str, version: tuple[int, ...]) -> None:
    assert numbers(text) == version


def test_an_engine_demands_what_its_newest_row_up_to_the_version_says() -> None:
    assert minimum_for("vllm", "0.19.0") == Minimum((7, 0), 525)
    assert minimum_for("vllm", "0.20.0") == Minimum((7, 0), 580)
    assert minimum_for("vllm", "") == minimum_for("vllm", "99.0")
    assert minimum_for("demo", "1.0") == MINIMUM_OF_NONE
    for engine in {row.engine for row in MINIMUMS}:
        since = [row.since for row in MINIMUMS if row.engine == engine]
        assert since == sorted(since)


def test_an_operators_own_build_is_held_to_no_minimum() -> None:
    recipe = a_recipe(engine=EngineChoice(name="vllm", version="0.33.0", path="/opt/vllm/bin/vllm"))
    assert gpu_need(recipe).minimum == MINIMUM_OF_NONE


def test_gpus_are_counted_from_parallelism_and_bytes_come_from_the_estimate_unless_the_recipe_names_them() -> None:
    recipe = a_recipe()
    recipe.args.tensor_parallel.CopyFrom(IntOrAuto(value=2))
    recipe.args.pipeline_parallel = 2
    assert gpu_need(recipe, KNOWN).memory_bytes == 7
    assert gpu_need(recipe).count == 4
    recipe.resources.CopyFrom(Resources(gpu=GpuRequest(count=IntOrAuto(value=1))))
    recipe.resources.gpu.memory.bytes = 9
    assert gpu_need(recipe, KNOWN).memory_bytes == 9
    assert gpu_need(recipe).count == 1


def test_weights_are_known_by_source_and_revision() -> None:
    assert weights_key(a_recipe(model=ModelSource(source="hf://a/b"))) == "hf://a/b"
    assert weights_key(a_recipe(model=ModelSource(source="hf://a/b", revision="main"))) == "hf://a/b@main"
    assert weights_key(a_recipe(model=ModelSource())) == ""


def test_linked_gpus_are_one_domain_also_over_a_third() -> None:
    found = domains([("a", ["b"]), ("b", ["a", "c"]), ("c", ["b"]), ("d", []), ("e", ["gone"])])
    assert found["a"] == found["b"] == found["c"]
    assert len(set(found.values())) == 3


def test_the_smallest_group_that_is_large_enough_is_kept() -> None:
    assert narrow([0, 1, 2, 3, 4], 2, lambda at: at < 3) == [3, 4]
    assert narrow([0, 1, 2, 3, 4], 3, lambda at: at < 3) == [0, 1, 2]
    assert narrow([0, 1, 2, 3, 4], 4, lambda at: at < 3) == [0, 1, 2, 3, 4]


def test_memory_that_is_hidden_by_the_driver_counts_as_strangers() -> None:
    gpu = a_gpu()
    gpu.figures.memory_used_bytes = 30 * GIB
    gpu.figures.processes.add(pid=7, command="train")
    gpu.figures.processes.add(pid=8, replica_id="chat-1", memory_used_bytes=10 * GIB)
    (device,), _ = devices_of(a_host(gpus=[gpu]))
    assert device.foreign_bytes == 20 * GIB
    assert device.strangers == "pid 7 (train)"
    assert measured_shares(gpu) == {"chat-1": 10 / 80}


def test_measured_bytes_are_counted_in_steps_so_that_a_plan_does_not_flicker() -> None:
    found = set()
    for extra in (1, 1000, 100 * 2**20):
        gpu = a_gpu()
        gpu.figures.processes.add(pid=7, memory_used_bytes=10 * GIB + extra)
        (device,), _ = devices_of(a_host(gpus=[gpu]))
        found.add(device.foreign_bytes)
    assert found == {10 * GIB + 256 * 2**20}


def test_a_replica_of_ours_counts_with_its_reservation_or_what_it_was_measured_to_hold_whichever_is_more() -> None:
    gpu = a_gpu()
    gpu.figures.processes.add(pid=8, replica_id="chat-1", memory_used_bytes=60 * GIB)
    fleet = Fleet.of([a_host(gpus=[gpu])])
    half = Wish("embed", GpuNeed(1, 0.5))
    assert fleet.best(half) is not None
    fleet.add(Held("chat-1", "chat", 0, GpuNeed(1, 0.3), (gpu.uuid,)), "id-lab-1")
    assert fleet.best(half) is None
    fleet.remove("chat-1")
    fleet.add(Held("other-1", "chat", 0, GpuNeed(1, 0.3), (gpu.uuid,)), "id-lab-1")
    assert fleet.best(half) is not None
