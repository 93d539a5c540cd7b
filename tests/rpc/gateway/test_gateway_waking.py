"""Requests for a model that is not up: held, sent when it is, refused when it will not be."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fakes.front_door import FrontDoor, a_route, a_route_table, an_access_table, an_api_key, front_door
from fakes.upstream import Upstream, answers, chat_answer, chat_chunks, streams
from google.protobuf.duration_pb2 import Duration
from studio.v1.route_pb2 import Route
from studio_gateway.waking import held as held_module

CHAT = "/v1/chat/completions"
OTHER_KEY = "sk-bbbbbbbbbbbb-" + "t" * 43


def a_sleeping_route(seconds: int = 60, queue: int = 10, **fields: Any) -> Route:
    return a_route(
        "tiny",
        wakeable=True,
        wake_deadline=Duration(seconds=seconds),
        wake_queue=queue,
        unavailable_reason="tiny is asleep",
        **fields,
    )


def held(door: FrontDoor) -> int:
    return sum(model.held for model in door.gateway.traffic.report(lambda _: 0).models)


async def until_held(door: FrontDoor, count: int) -> None:
    async with asyncio.timeout(10):
        while held(door) != count:
            await asyncio.sleep(0.005)


def put(door: FrontDoor, route: Route) -> None:
    version = door.in_force.routes.version + 1 if door.in_force.routes else 1
    door.in_force.put_routes(a_route_table(route, version=version))


@asynccontextmanager
async def asking(door: FrontDoor, **body: Any) -> AsyncIterator["asyncio.Task[tuple[int, bytes, Any]]"]:
    """One request under way; its task gives status, body and headers."""

    async def ask() -> tuple[int, bytes, Any]:
        async with door.client.post(door.url + CHAT, json={"model": "tiny", **body}) as response:
            return response.status, await response.read(), response.headers

    task = asyncio.create_task(ask())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_many_are_held_and_all_of_them_answered_when_the_model_is_up() -> None:
    async with Upstream(answers(chat_answer("up"))) as upstream, front_door(a_sleeping_route()) as door:
        async with asking(door) as first, asking(door) as second:
            await until_held(door, 2)
            put(door, a_route("tiny", upstream.url))
            for task in (first, second):
                status, body, _ = await task
                assert status == 200
                assert json.loads(body) == chat_answer("up")
        assert held(door) == 0
        record = await door.record()
        assert (record.status, record.replica_id) == (200, "tiny-0")
        assert 0 < record.queue_seconds <= record.duration_seconds


async def test_while_it_comes_up_they_go_on_waiting() -> None:
    async with (
        Upstream(answers(chat_answer("up"))) as upstream,
        front_door(a_sleeping_route()) as door,
        asking(door) as task,
    ):
        await until_held(door, 1)
        put(door, a_sleeping_route(starting=True))
        assert held(door) == 1
        put(door, a_route("tiny", upstream.url))
        assert (await task)[0] == 200


async def test_a_model_that_will_not_come_up_ends_the_wait_with_its_reason() -> None:
    async with front_door(a_sleeping_route()) as door, asking(door) as task:
        await until_held(door, 1)
        put(door, a_route("tiny", unavailable_reason="tiny is stopped"))
        status, body, headers = await task
        assert (status, json.loads(body)["error"]["code"]) == (503, "model_unavailable")
        assert "tiny is stopped" in json.loads(body)["error"]["message"]
        assert headers["Retry-After"]


async def test_after_the_deadline_it_is_refused() -> None:
    async with front_door(a_sleeping_route(seconds=0)) as door, asking(door) as task:
        status, body, headers = await task
        assert (status, json.loads(body)["error"]["code"]) == (503, "model_waking")
        assert headers["Retry-After"] == "10"
        assert (await door.record()).finish == "not_woken"
        assert held(door) == 0


async def test_the_queue_is_bounded_and_a_tenant_that_fills_it_gives_way() -> None:
    keys = an_access_table(an_api_key(), an_api_key(OTHER_KEY, tenant="other"))
    async with front_door(a_sleeping_route(queue=2), access=keys) as door, asking(door), asking(door) as second:
        await until_held(door, 2)
        async with asking(door) as third:
            status, body, _ = await third
            assert (status, json.loads(body)["error"]["code"]) == (503, "model_waking")
            assert "2 requests wait for it already" in json.loads(body)["error"]["message"]
        headers = {"Authorization": f"Bearer {OTHER_KEY}"}
        other = asyncio.create_task(door.client.post(door.url + CHAT, json={"model": "tiny"}, headers=headers))
        assert (await second)[0] == 503
        assert held(door) == 2
        other.cancel()
        await asyncio.gather(other, return_exceptions=True)


async def test_a_client_that_leaves_waits_no_more() -> None:
    async with front_door(a_sleeping_route()) as door:
        async with asking(door) as task:
            await until_held(door, 1)
            task.cancel()
            await until_held(door, 0)
        record = await door.record()
        assert (record.finish, record.status) == ("client_gone", 499)


async def test_a_stream_that_waits_is_kept_alive_with_comments_and_then_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(held_module, "KEEP_ALIVE_SECONDS", 0.0)
    chunks = chat_chunks("a", "b")
    async with Upstream(streams(chunks)) as upstream, front_door(a_sleeping_route()) as door:
        async with door.client.post(door.url + CHAT, json={"model": "tiny", "stream": True}) as response:
            assert response.status == 200
            assert response.content_type == "text/event-stream"
            assert await response.content.readline() == b": waiting for the model\n"
            put(door, a_route("tiny", upstream.url))
            received = await response.read()
        events = b"".join(line for line in received.splitlines(keepends=True) if line.startswith(b"data"))
        asked_for = b"".join(chunk for chunk in chunks if b"usage" not in chunk)
        assert events == b"".join(line for line in asked_for.splitlines(keepends=True) if line.startswith(b"data"))
        record = await door.record()
        assert (record.finish, record.completion_tokens) == ("stop", 2)


async def test_a_stream_that_was_kept_alive_ends_with_an_error_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_module, "KEEP_ALIVE_SECONDS", 0.0)
    async with front_door(a_sleeping_route()) as door:
        async with door.client.post(door.url + CHAT, json={"model": "tiny", "stream": True}) as response:
            await response.content.readline()
            put(door, a_route("tiny", unavailable_reason="tiny is stopped"))
            *_, last = (await response.read()).strip().split(b"\n\n")
        assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "model_unavailable"


async def test_what_the_engine_refuses_reaches_a_stream_that_was_kept_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_module, "KEEP_ALIVE_SECONDS", 0.0)
    refusal = {"error": {"message": "the prompt is too long", "type": "BadRequestError", "code": 400}}
    async with Upstream(answers(refusal, 400)) as upstream, front_door(a_sleeping_route()) as door:
        async with door.client.post(door.url + CHAT, json={"model": "tiny", "stream": True}) as response:
            await response.content.readline()
            put(door, a_route("tiny", upstream.url))
            *_, last = (await response.read()).strip().split(b"\n\n")
        error = json.loads(last.removeprefix(b"data: "))["error"]
        assert (error["message"], error["type"]) == ("the prompt is too long", "BadRequestError")


async def test_a_table_that_came_between_head_and_body_is_not_missed() -> None:
    async with Upstream(answers(chat_answer("up"))) as upstream, front_door(a_sleeping_route()) as door:

        async def body() -> AsyncIterator[bytes]:
            yield b'{"model":'
            await asyncio.to_thread(lambda: None)
            while not door.gateway.running:
                await asyncio.sleep(0.005)
            put(door, a_route("tiny", upstream.url))
            yield b'"tiny"}'

        headers = {"Content-Type": "application/json"}
        async with door.client.post(door.url + CHAT, data=body(), headers=headers) as response:
            assert response.status == 200
