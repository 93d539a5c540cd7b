"""The official clients get from the gateway, field by field, what they get from the engine itself: here the demo engine."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from fakes.conformance import ASKS, Door, embedding, told
from fakes.demo_process import demo_engine
from fakes.front_door import KEY, a_route, front_door

HERE = ASKS | {
    "embedding": embedding,
    "embedding as numbers": lambda door: embedding(door, encoding_format="float"),
    "embedding, shortened": lambda door: embedding(door, dimensions=4),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def doors() -> AsyncIterator[tuple[Door, Door]]:
    async with demo_engine() as engine, front_door(a_route("demo", engine.url)) as gateway:
        yield Door(engine.url, "none", "demo"), Door(gateway.url, KEY, "demo")


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", HERE)
async def test_the_same_answer(doors: tuple[Door, Door], name: str):
    direct, through = doors
    expected, answer = [told(await asyncio.to_thread(HERE[name], door)) for door in (direct, through)]
    assert answer == expected
    assert answer
