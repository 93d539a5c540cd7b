"""How a model is spread over the GPUs of one host, and of several."""

import pytest
from fakes.driver_cases import a_recipe, tried
from hypothesis import given
from hypothesis import strategies as st
from studio.v1.assignment_pb2 import Group
from studio.v1.recipe_pb2 import EngineArgs, IntOrAuto
from studio_agent.engines.errors import RecipeError
from studio_agent.engines.parallel import Spread, spread


def args(tensor: int = 0, pipeline: int = 0, data: int = 0) -> EngineArgs:
    said = EngineArgs()
    if tensor:
        said.tensor_parallel.CopyFrom(IntOrAuto(value=tensor))
    if pipeline:
        said.pipeline_parallel = pipeline
    if data:
        said.data_parallel = data
    return said


@pytest.mark.parametrize(
    ("said", "gpus", "hosts", "parts"),
    [
        (args(), 8, 2, Spread(8, 2)),
        (args(tensor=16), 8, 2, Spread(16, 1)),
        (args(tensor=4), 8, 2, Spread(4, 4)),
        (args(pipeline=4), 8, 2, Spread(4, 4)),
        (args(tensor=2, pipeline=2), 8, 2, Spread(2, 2)),
        (args(), 0, 2, Spread(2, 1)),
        (args(pipeline=3), 0, 3, Spread(1, 3)),
    ],
)
def test_what_is_left_open_is_filled_in(said: EngineArgs, gpus: int, hosts: int, parts: Spread):
    assert spread(said, gpus, hosts) == parts


@pytest.mark.parametrize(
    ("said", "path"),
    [
        (args(tensor=16, pipeline=2), "args.tensor_parallel"),
        (args(tensor=3, pipeline=1), "resources.hosts"),
        (args(data=2), "args.data_parallel"),
    ],
)
def test_what_does_not_come_out_even_is_refused(said: EngineArgs, path: str):
    with pytest.raises(RecipeError) as refused:
        spread(said, 8, 2)
    assert refused.value.path == path


@given(st.integers(0, 16), st.integers(0, 8), st.integers(0, 8), st.integers(2, 6))
def test_every_host_has_the_same_part_and_no_more_than_its_gpus(tensor: int, pipeline: int, gpus: int, hosts: int):
    try:
        parts = spread(args(tensor, pipeline), gpus, hosts)
    except RecipeError:
        return
    assert parts.tensor * parts.pipeline % hosts == 0
    assert not gpus or parts.tensor * parts.pipeline <= gpus * hosts
    assert tensor in (0, parts.tensor)
    assert pipeline in (0, parts.pipeline)


@pytest.mark.parametrize("engine", ["tabbyapi", "llamacpp"])
def test_engines_of_one_host_refuse_a_part(engine: str):
    group = Group(rank=1, size=2, leader_address="10.0.0.7", leader_port=29501)
    assert tried(engine, a_recipe(), group=group) == "resources.hosts"
