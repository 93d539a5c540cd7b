"""Bytes on a GPU, in each engine's terms: never more than was given."""

from fractions import Fraction

import pytest
from fakes.driver_cases import GIB, a_recipe, launch
from hypothesis import given
from hypothesis import strategies as st
from studio_agent.engines import memory

BYTES = st.integers(1, 512 * GIB)


@given(BYTES, BYTES)
def test_a_share_of_the_whole_never_exceeds_what_was_given(allowed: int, more: int):
    total = allowed + more
    share = memory.share_of_total(allowed, total)
    assert 0 <= share <= 1
    # The share is what is printed: four decimals, exactly.
    assert Fraction(f"{share:.4f}") * total <= allowed


@given(BYTES, BYTES, st.integers(1, 16), st.integers(0, 65536))
def test_weights_and_cache_never_exceed_what_was_given(allowed: int, more: int, gpus: int, chunk: int):
    free = allowed + more
    share = memory.static_share_of_free(allowed, free, gpus, free, chunk)
    assert 0 <= share < 1
    assert share * free < allowed


@given(BYTES, BYTES)
def test_what_stays_free_and_what_was_given_fill_the_device(allowed: int, free: int):
    margin = memory.left_free_mib(allowed, free)
    assert margin >= 0
    assert free - margin * memory.MIB <= allowed


def test_the_engine_that_starts_second_is_told_a_share_of_what_is_left():
    first = memory.static_share_of_free(40 * GIB, 80 * GIB, 1, 80 * GIB)
    second = memory.static_share_of_free(40 * GIB, 41 * GIB, 1, 80 * GIB)
    assert second == pytest.approx(first * 80 / 41, abs=2e-4)


@pytest.mark.parametrize(
    ("total", "chunk"), [(16, 2048), (24, 4096), (48, 4096), (80, 8192), (141, 8192), (192, 16384)]
)
def test_what_it_keeps_for_a_chunk_grows_with_the_device(total: int, chunk: int):
    by_itself = memory.static_share_of_free(total * GIB, total * GIB, 1, total * GIB)
    assert by_itself == memory.static_share_of_free(total * GIB, total * GIB, 1, total * GIB, chunk)


def test_each_engine_is_told_in_its_own_terms():
    room = {"gpu_memory_bytes": 20 * GIB, "gpu_total_bytes": 80 * GIB, "gpu_free_bytes": 50 * GIB}
    told = {engine: launch(engine, a_recipe(), **room).argv for engine in ("vllm", "llamacpp")}
    assert told["vllm"][-2:] == ("--gpu-memory-utilization", "0.25")
    assert told["llamacpp"][-2:] == ("--fit-target", str(30 * 1024))
    sglang = launch("sglang", a_recipe(args={"max_num_batched_tokens": 2048}), **room).argv
    share = float(sglang[sglang.index("--mem-fraction-static") + 1])
    assert 0.2 < share < 20 / 50


@pytest.mark.parametrize("engine", ["vllm", "sglang", "llamacpp"])
def test_where_the_room_is_not_known_nothing_is_said(engine: str):
    argv = launch(engine, a_recipe(), gpu_memory_bytes=20 * GIB).argv
    assert argv == launch(engine, a_recipe()).argv
