"""Models of the fleet whose operator wants LiteLLM on the way: the real library, the real gateway, scripted engines."""

import asyncio
import sys
from types import ModuleType
from typing import Any

import pytest
from fakes.front_door import a_route, a_route_table, front_door
from fakes.upstream import Upstream, answers, chat_answer, chat_chunks, streams

# LiteLLM uses its own dependencies in ways that they warn of; nothing here can mend that.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*ReadOnly.*:UserWarning"),
]

CHAT = "/v1/chat/completions"
BODY = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture(autouse=True)
def no_price_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the gateway sets as well: a test may be the first to import LiteLLM."""
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")


def through_litellm(*urls: str, **fields: Any):
    return a_route("tiny", *urls, via="litellm", **fields)


async def test_request_reaches_the_engine_with_its_own_fields_and_is_counted_there():
    async with (
        Upstream(answers(chat_answer("Hello"))) as engine,
        front_door(through_litellm(engine.url), litellm=True) as door,
    ):
        body = BODY | {"temperature": 0.5, "top_k": 3, "chat_template_kwargs": {"x": True}}
        async with door.client.post(door.url + CHAT, json=body, headers={"x-request-id": "mine"}) as response:
            document = await response.json()
            assert response.status == 200, document
            assert not [name for name in response.headers if name.lower().startswith(("x-litellm", "llm_provider"))]
        assert document["choices"][0]["message"]["content"] == "Hello"
        request = await engine.request()
        assert request.document["top_k"] == 3
        assert request.document["chat_template_kwargs"] == {"x": True}
        assert request.headers["x-request-id"] == "mine"
        assert request.headers["traceparent"].startswith("00-")
        record = await door.record()
        assert (record.replica_id, record.recipe_revision, record.provider) == ("tiny-0", 3, "")
        assert (record.prompt_tokens, record.completion_tokens, record.finish) == (7, 3, "stop")


async def test_each_replica_is_a_deployment_and_gets_its_part():
    async with (
        Upstream(answers(chat_answer("zero"))) as zero,
        Upstream(answers(chat_answer("one"))) as one,
        front_door(through_litellm(zero.url, one.url), litellm=True) as door,
    ):
        said = set()
        for number in range(4):
            async with door.client.post(door.url + CHAT, json=BODY) as response:
                said.add((await response.json())["choices"][0]["message"]["content"])
            await door.record(number)
        assert said == {"zero", "one"}
        assert {record.replica_id for record in door.records} == {"tiny-0", "tiny-1"}


async def test_replica_that_is_withdrawn_gets_nothing_new_and_its_stream_goes_on():
    gate = asyncio.Event()
    async with (
        Upstream(streams(chat_chunks("a", "b"), gate=gate)) as old,
        Upstream(answers(chat_answer("new"))) as new,
        front_door(through_litellm(old.url), litellm=True) as door,
        door.client.post(door.url + CHAT, json=BODY | {"stream": True}) as stream,
    ):
        assert b'"a"' in await stream.content.readany()
        route = through_litellm(new.url)
        route.endpoints[0].replica_id = "tiny-9"
        door.in_force.put_routes(a_route_table(route, version=2))
        assert door.in_force.standings.of("tiny-0").in_flight == 1
        async with door.client.post(door.url + CHAT, json=BODY) as response:
            assert (await response.json())["choices"][0]["message"]["content"] == "new"
        gate.set()
        rest = (await stream.read()).decode()
        assert '"b"' in rest
        assert rest.endswith("data: [DONE]\n\n")
        await door.record(1)
        assert {record.replica_id: record.finish for record in door.records} == {"tiny-0": "stop", "tiny-9": "stop"}


async def test_replica_that_nobody_listens_on_is_passed_over_and_ejected():
    async with (
        Upstream(answers(chat_answer("alive"))) as alive,
        front_door(through_litellm("http://127.0.0.1:1", alive.url), litellm=True) as door,
    ):
        for _ in range(3):
            async with door.client.post(door.url + CHAT, json=BODY) as response:
                assert response.status == 200, await response.text()
        assert door.metric("ejections_total") == 1
        assert door.metric("retries_total") == 1


async def test_engine_that_refuses_is_heard_without_its_address():
    refused = {"error": {"message": "temperature must be positive", "type": "BadRequestError", "code": 400}}
    async with (
        Upstream(answers(refused, 400)) as engine,
        front_door(through_litellm(engine.url), litellm=True) as door,
        door.client.post(door.url + CHAT, json=BODY) as response,
    ):
        text = await response.text()
        assert response.status == 400
        assert "temperature must be positive" in text
        assert engine.url not in text


async def test_anthropic_messages_are_translated_for_an_engine():
    async with (
        Upstream(answers(chat_answer("Hello"))) as engine,
        front_door(through_litellm(engine.url), litellm=True) as door,
    ):
        body = BODY | {"max_tokens": 5}
        async with door.client.post(f"{door.url}/v1/messages", json=body) as response:
            document = await response.json()
            assert response.status == 200, document
        assert document["content"][0]["text"] == "Hello"
        assert (await engine.request()).target == CHAT


@pytest.mark.parametrize("path", ["/v1/rerank", "/v1/audio/speech"])
async def test_other_paths_are_not_offered(path: str):
    async with (
        front_door(through_litellm("http://127.0.0.1:1"), litellm=True) as door,
        door.client.post(door.url + path, json={"model": "tiny"}) as response,
    ):
        assert response.status == 501


@pytest.mark.parametrize("field", ["api_base", "api_key", "mock_response", "fallbacks", "extra_headers", "timeout"])
async def test_client_cannot_steer_the_router(field: str):
    async with (
        Upstream(answers(chat_answer("Hello"))) as engine,
        front_door(through_litellm(engine.url), litellm=True) as door,
    ):
        body = BODY | {field: "http://evil"}
        async with door.client.post(door.url + CHAT, json=body) as response:
            assert response.status == 200, await response.text()
        request = await engine.request()
        assert request.document[field] == "http://evil"
        assert request.headers["authorization"] == "Bearer none"


async def test_operators_callback_sees_and_refuses_requests(monkeypatch: pytest.MonkeyPatch):
    from litellm.integrations.custom_logger import CustomLogger

    seen: list[tuple[str, str]] = []

    class Guard(CustomLogger):
        async def async_pre_call_deployment_hook(self, kwargs: dict[str, Any], call_type: Any) -> None:
            del call_type
            if "forbidden" in str(kwargs["messages"]):
                error = ValueError("the guard says no")
                error.status_code = 403
                raise error

        async def async_log_success_event(self, kwargs: dict[str, Any], **_: Any) -> None:
            about = kwargs["standard_logging_object"]
            seen.append((about["model_group"], about["model_id"]))

    guards = ModuleType("guards_of_this_test")
    guards.instance = Guard()
    monkeypatch.setitem(sys.modules, "guards_of_this_test", guards)
    settings = {"callbacks": ["guards_of_this_test.instance"]}
    async with (
        Upstream(answers(chat_answer("Hello"))) as engine,
        front_door(through_litellm(engine.url), litellm=True, litellm_settings=settings) as door,
    ):
        try:
            async with door.client.post(door.url + CHAT, json=BODY) as response:
                assert response.status == 200
            async with asyncio.timeout(10):
                while not seen:
                    await asyncio.sleep(0.01)
            assert seen[0] == ("tiny", "tiny-0")
            forbidden = BODY | {"messages": [{"role": "user", "content": "forbidden"}]}
            async with door.client.post(door.url + CHAT, json=forbidden) as response:
                assert response.status == 403, await response.text()
                assert "the guard says no" in await response.text()
            assert len(engine.received) == 1
        finally:
            import litellm

            litellm.callbacks.remove(guards.instance)
