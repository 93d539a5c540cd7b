"""The estimate as placement sees it: what is kept free, how many GPUs, and what the engine is told."""

import pytest
from builders import GIB, a_deployment, a_recipe
from fakes.models import LLAMA_8B, LLAMA_70B, facts
from fakes.world import World
from hypothesis import given
from hypothesis import strategies as st
from studio.v1.recipe_pb2 import EngineChoice, GpuRequest, IntOrAuto, Recipe, Resources
from studio_coordinator.plan.allowance import allowance
from studio_coordinator.plan.gpus import Device
from studio_coordinator.plan.memory.calibration import Calibration, Measured
from studio_coordinator.plan.sizing import LOADING_BYTES, GpuKind, Sizing, needs_facts, size
from studio_coordinator.plan.wish import gpu_need, wish_of

H100 = GpuKind("NVIDIA H100 80GB HBM3", 80 * GIB)
L4 = GpuKind("NVIDIA L4", 24 * GIB)
EIGHT = {H100: 8}
# 0.2 billion parameters.
SMALL = LLAMA_8B | {"hidden_size": 1024, "num_hidden_layers": 8, "num_attention_heads": 16, "intermediate_size": 2048}


def sized(recipe: Recipe, config: dict[str, object] | None = None, kinds: dict[GpuKind, int] | None = None) -> Sizing:
    return size(recipe, facts(config or LLAMA_8B), kinds or EIGHT, {})


def auto() -> Recipe:
    recipe = a_recipe(max_model_len=4096)
    recipe.args.tensor_parallel.auto = True
    return recipe


def sharing(share: float) -> Recipe:
    return a_recipe(max_model_len=4096, resources=Resources(gpu=GpuRequest(count=IntOrAuto(value=1), share=share)))


def a_device(kind: GpuKind, foreign_gib: float = 0) -> Device:
    stranger = "pid 7 (python)" if foreign_gib else ""
    return Device(kind.model, kind.memory_bytes, (), False, False, "", int(foreign_gib * GIB), stranger, 0, 0)


def told(recipe: Recipe, sizing: Sizing, *devices: Device) -> int:
    return allowance(recipe, gpu_need(recipe, sizing), devices, sizing)


def test_a_replica_needs_its_weights_one_full_request_and_what_runs_beside_them() -> None:
    need = gpu_need(a_recipe(max_model_len=4096), sized(a_recipe(max_model_len=4096)))
    assert need.count == 1
    assert 15 * GIB < need.memory_bytes < 24 * GIB


def test_a_longer_context_needs_more() -> None:
    short, long = (sized(a_recipe(max_model_len=tokens)).gpu_memory_bytes for tokens in (1024, 8192))
    # 128 KiB of keys and values per token.
    assert long - short == pytest.approx(7168 * 128 * 1024, rel=0.01)


def test_auto_takes_the_smallest_split_that_fits() -> None:
    small, large = sized(auto()), sized(auto(), LLAMA_70B)
    assert (gpu_need(auto(), small).count, gpu_need(auto(), large).count) == (1, 2)
    assert gpu_need(auto(), large).memory_bytes < 80 * GIB


def test_a_count_that_the_recipe_names_is_left_alone() -> None:
    recipe = auto()
    recipe.resources.gpu.count.value = 4
    assert gpu_need(recipe, sized(recipe, LLAMA_70B)).count == 4


def test_what_fits_nowhere_asks_for_the_least_that_is_missing() -> None:
    need = gpu_need(a_recipe(), sized(a_recipe(), LLAMA_70B, {H100: 1, L4: 1}))
    assert need.memory_bytes > 130 * GIB


def test_of_several_kinds_the_most_that_any_on_which_it_fits_needs_is_asked() -> None:
    both = sized(a_recipe(max_model_len=4096), kinds={H100: 8, L4: 4})
    alone = [sized(a_recipe(max_model_len=4096), kinds={kind: 4}).gpu_memory_bytes for kind in (H100, L4)]
    fitting = [need for need, kind in zip(alone, (H100, L4), strict=True) if need <= kind.memory_bytes]
    assert both.gpu_memory_bytes == max(fitting)


def test_a_shared_gpu_keeps_room_for_errors_too() -> None:
    assert sized(sharing(0.3)).gpu_memory_bytes > sized(a_recipe(max_model_len=4096)).gpu_memory_bytes


def test_the_estimate_of_a_part_of_a_gpu_is_of_that_part_and_fits_there() -> None:
    sizing = sized(sharing(0.5))
    shown = sizing.on[H100].estimate
    assert shown.fits
    assert shown.total_bytes <= 0.5 * H100.memory_bytes


def test_bytes_that_the_recipe_names_win() -> None:
    recipe = a_recipe()
    recipe.resources.gpu.memory.bytes = 40 * GIB
    assert gpu_need(recipe, sized(recipe)).memory_bytes == 40 * GIB


def test_what_starts_measured_replaces_what_was_predicted() -> None:
    recipe = a_recipe(max_model_len=4096)
    measured = {(1, H100.model): Calibration({"weights": Measured(20 * GIB)})}
    known = size(recipe, facts(LLAMA_8B), EIGHT, measured)
    assert known.gpu_memory_bytes - sized(recipe).gpu_memory_bytes == pytest.approx(5 * GIB, rel=0.02)
    assert known.on[H100].estimate.weights.source.value == "measured"


def test_what_was_measured_on_two_gpus_does_not_make_it_fit_on_one() -> None:
    measured = {(2, H100.model): Calibration({"weights": Measured(66 * GIB)})}
    sizing = size(auto(), facts(LLAMA_70B), EIGHT, measured)
    assert sizing.tensor_parallel == 2
    assert sizing.on[H100].estimate.weights.bytes == 66 * GIB


def test_a_model_that_may_sleep_keeps_its_weights_in_the_hosts_memory() -> None:
    recipe = a_recipe()
    recipe.args.sleep_mode = True
    # To load, each process has its own; the weights stay in it only while they sleep.
    assert sized(a_recipe()).host_memory_bytes == LOADING_BYTES
    assert sized(recipe).host_memory_bytes == LOADING_BYTES + facts(LLAMA_8B).weights.bytes


def test_only_what_is_fetched_needs_disk() -> None:
    local = a_recipe()
    local.model.source = "path:///srv/models/llama"
    assert sized(a_recipe()).disk_bytes > facts(LLAMA_8B).weights.bytes
    assert sized(local).disk_bytes == 0


def test_a_recipe_without_gpus_or_of_another_engine_asks_nothing_of_the_estimate() -> None:
    assert needs_facts(a_recipe())
    assert not needs_facts(a_recipe(engine=EngineChoice(name="demo")))
    assert not needs_facts(a_recipe(resources=Resources(gpu=GpuRequest(count=IntOrAuto(value=0)))))


def test_a_whole_gpu_is_left_to_the_engines_default() -> None:
    recipe = a_recipe(max_model_len=4096)
    assert told(recipe, sized(recipe), a_device(H100)) == 0


def test_an_engine_beside_a_stranger_is_told_what_is_free() -> None:
    recipe = a_recipe(max_model_len=4096)
    allowed = told(recipe, sized(recipe), a_device(H100, foreign_gib=30))
    assert 45 * GIB < allowed < 50 * GIB


def test_of_several_gpus_the_tightest_decides() -> None:
    recipe = auto()
    sizing = sized(recipe)
    alone = told(recipe, sizing, a_device(H100, foreign_gib=30))
    assert told(recipe, sizing, a_device(H100), a_device(H100, foreign_gib=30)) == alone


def test_an_operators_own_fraction_is_left_alone() -> None:
    recipe = sharing(0.5)
    recipe.extra_args["gpu-memory-utilization"].number_value = 0.4
    assert told(recipe, sized(recipe), a_device(H100)) == 0


@given(shares=st.lists(st.floats(0.05, 1), min_size=1, max_size=8))
def test_engines_that_share_a_gpu_are_never_told_more_than_it_has(shares: list[float]) -> None:
    taken = reserved = 0.0
    for share in shares:
        recipe = sharing(share)
        sizing = sized(recipe)
        need = gpu_need(recipe, sizing)
        if reserved + need.share_of(H100.memory_bytes) > 1:
            continue
        reserved += need.share_of(H100.memory_bytes)
        taken += told(recipe, sizing, a_device(H100)) + sizing.on[H100].outside_bytes
    assert taken <= H100.memory_bytes


def test_a_wish_carries_all_of_it() -> None:
    recipe = auto()
    recipe.args.sleep_mode = True
    wish = wish_of(a_deployment(), recipe, sized(recipe, LLAMA_70B))
    assert wish.gpus.count == 2
    assert wish.host_memory_bytes > 130 * GIB
    assert wish.disk_bytes > 130 * GIB


def test_each_kind_of_gpu_gets_the_smallest_split_that_fits_it() -> None:
    sizing = sized(auto(), LLAMA_70B, {H100: 8, L4: 8})
    wish = wish_of(a_deployment("chat"), auto(), sizing)
    assert (wish.gpus.count, [need.count for need in wish.wider]) == (2, [8])
    assert wish.wider[0].memory_bytes <= L4.memory_bytes < wish.gpus.memory_bytes
    assert [on.gpus for on in (sizing.at(H100, 2), sizing.at(L4, 8)) if on is not None] == [2, 8]


def test_a_wider_split_is_taken_where_the_smallest_finds_no_room() -> None:
    world = World(hosts=2, gpus=0)
    for host, kind in zip(world.hosts, (H100, L4), strict=True):
        for index in range(8 if kind is L4 else 2):
            host.host.gpus.add(
                uuid=f"{host.host.name}-{index}", index=index, model=kind.model, memory_bytes=kind.memory_bytes
            )
    world.deploy("chat", replicas=3)
    recipe = auto()
    world.recipes["chat", 1] = recipe
    world.sizes["chat", 1] = sized(recipe, LLAMA_70B, {H100: 2, L4: 8})
    world.settle()
    placed = {row.id: (row.host_name, len(row.gpu_uuids)) for row in world.replicas.values()}
    assert placed == {"chat-1": ("h1", 2), "chat-2": ("h2", 8), "chat-3": ("", 0)}
    assert "wants 2 GPUs" in world.replicas["chat-3"].state_reason


def test_what_no_single_host_holds_goes_over_as_few_hosts_as_hold_it() -> None:
    sizing = sized(auto(), LLAMA_70B, {L4: 4})
    assert (sizing.hosts, sizing.tensor_parallel) == (2, 4)
    wish = wish_of(a_deployment("chat"), auto(), sizing)
    assert (wish.span, wish.gpus.count) == (2, 4)
    assert wish.gpus.memory_bytes <= L4.memory_bytes
    # A stage has half of the layers, and of those each rank a quarter.
    weights = sizing.on[L4].estimate.weights.bytes
    assert weights == pytest.approx(facts(LLAMA_70B).weights.bytes / 8, rel=0.05)


def test_an_engine_that_cannot_leave_its_host_is_told_what_is_missing() -> None:
    recipe = auto()
    recipe.args.pipeline_parallel = 1
    sizing = sized(recipe, LLAMA_70B, {L4: 4})
    assert (sizing.hosts, sizing.tensor_parallel) == (0, 4)
    assert sizing.gpu_memory_bytes > L4.memory_bytes


def test_more_gpus_than_a_host_has_are_estimated_as_stages_on_several() -> None:
    recipe = a_recipe(max_model_len=4096, resources=Resources(gpu=GpuRequest(count=IntOrAuto(value=16))))
    sixteen = sized(recipe, LLAMA_70B).on[H100]
    recipe.args.tensor_parallel.value, recipe.args.pipeline_parallel = 8, 2
    assert sixteen.estimate == sized(recipe, LLAMA_70B).on[H100].estimate
    assert wish_of(a_deployment("chat"), recipe, sized(recipe, LLAMA_70B)).span == 0, (
        "placing finds as few hosts as have room"
    )


@given(st.lists(st.sampled_from([0.2, 0.3, 0.4]), min_size=1, max_size=3), st.sampled_from([H100, L4]))
def test_what_engines_on_one_gpu_are_told_leaves_room_for_what_they_do_not_count(
    shares: list[float], kind: GpuKind
) -> None:
    engines = []
    for share in shares:
        recipe = sharing(share)
        sizing = sized(recipe, SMALL, {kind: 8})
        reserved = gpu_need(recipe, sizing).share_of(kind.memory_bytes)
        engines.append((reserved, told(recipe, sizing, a_device(kind)), sizing.on[kind]))
    for _, budget, on in engines:
        counted = on.estimate.weights.bytes + on.estimate.activation.bytes + on.estimate.buffers.bytes
        assert budget > counted, "each starts with room for its KV cache"
    if sum(reserved for reserved, _, _ in engines) <= 1:
        assert sum(budget + on.outside_bytes for _, budget, on in engines) <= kind.memory_bytes
