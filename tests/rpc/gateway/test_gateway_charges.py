"""What a request takes of a bound, seen by what the next one has to ask the coordinator for."""

import asyncio
from typing import Any

import pytest
from fakes.front_door import FrontDoor, a_route, an_access_table, an_api_key, front_door
from fakes.ports import free_port
from fakes.route_service import RouteServer
from fakes.upstream import Script, Upstream, answers, chat_answer, chat_chunks, event, streams
from studio.v1.route_pb2 import Limits, Price
from studio_runtime.settings import Address

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
BODY = {"model": "tiny", "max_tokens": 1000, "messages": []}
TOKENS = Limits(token_budget=10**6, budget_period=Limits.PERIOD_TOTAL)
MONEY = Limits(money_budget_micros=10**6, budget_period=Limits.PERIOD_TOTAL)
START = {"type": "message_start", "message": {"usage": {"input_tokens": 7, "output_tokens": 1}}}


async def charged(door: FrontDoor, coordinator: RouteServer, path: str, *, hangs_up: bool = False) -> tuple[int, int]:
    """What one request reserves, and what of it is gone when it has ended."""
    for number, is_left in enumerate((hangs_up, False)):
        async with door.client.post(door.url + path, json=BODY) as response:
            if is_left:
                await response.content.readany()
                response.close()
            else:
                await response.read()
        await door.record(number)
    needs = [need.amount for lease in coordinator.leases for need in lease.needs]
    return needs[0], sum(needs[1:])


def first_then(first: Script, then: Script) -> Script:
    scripts = [first]

    async def script(*given: Any) -> None:
        await (scripts.pop() if scripts else then)(*given)

    return script


LARGE = chat_answer() | {"prompt_logprobs": ["x" * 100] * 20_000}


@pytest.mark.parametrize(
    ("path", "script", "expected"),
    [
        (CHAT, answers(chat_answer()), 10),
        (CHAT, answers(LARGE), 10),
        (CHAT, answers({"choices": []}), None),
        (CHAT, streams(chat_chunks("a", with_usage=False)), None),
        (CHAT, answers({"error": {}}, 400), 0),
        (MESSAGES, streams([event(START)], then="hang"), None),
    ],
)
async def test_what_was_counted_is_charged_and_else_all(path: str, script: Script, expected: int | None):
    access = an_access_table(an_api_key(limits=TOKENS))
    hangs_up = path == MESSAGES
    async with RouteServer() as coordinator, Upstream(first_then(script, answers(chat_answer()))) as upstream:
        address = Address("127.0.0.1", coordinator.port)
        async with front_door(a_route("tiny", upstream.url), access=access, coordinator=address) as door:
            async with asyncio.timeout(10):
                reserved, taken = await charged(door, coordinator, path, hangs_up=hangs_up)
    assert taken == (reserved if expected is None else expected)
    assert reserved > 1000


async def test_a_request_that_no_engine_got_is_charged_nothing():
    access = an_access_table(an_api_key(limits=TOKENS))
    async with RouteServer() as coordinator:
        address, nobody = Address("127.0.0.1", coordinator.port), f"http://127.0.0.1:{free_port()}"
        async with front_door(a_route("tiny", nobody), access=access, coordinator=address) as door:
            reserved, taken = await charged(door, coordinator, CHAT)
    assert (taken, reserved > 1000) == (0, True)


async def test_the_model_that_answers_instead_is_charged_at_its_own_price():
    access = an_access_table(an_api_key(limits=MONEY))
    access.prices.extend(
        Price(model=name, prompt_micros=micros, completion_micros=micros)
        for name, micros in (("tiny", 1_000_000), ("other", 3_000_000))
    )
    nobody = a_route("tiny", f"http://127.0.0.1:{free_port()}", fallbacks=["other"])
    async with RouteServer() as coordinator, Upstream(answers(chat_answer())) as upstream:
        address = Address("127.0.0.1", coordinator.port)
        async with front_door(nobody, a_route("other", upstream.url), access=access, coordinator=address) as door:
            reserved, taken = await charged(door, coordinator, CHAT)
    assert (taken, reserved > 3000) == (30, True)
