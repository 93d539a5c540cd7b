"""Models of other providers, through the real LiteLLM, to a scripted provider that speaks OpenAI's API."""

import asyncio
import socket
from typing import Any

import pytest
from fakes.front_door import KEY, a_route, front_door
from fakes.upstream import Upstream, answers, chat_answer, chat_chunks, event, streams
from studio.v1.route_pb2 import ProviderRoute

# LiteLLM uses its own dependencies in ways that they warn of; nothing here can mend that.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*ReadOnly.*:UserWarning"),
]

CHAT = "/v1/chat/completions"
HI = [{"role": "user", "content": "hi"}]
PROVIDER_KEY = "provider-secret-0123456789"


@pytest.fixture(autouse=True)
def provider_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_PROVIDER_KEY", PROVIDER_KEY)


def a_provider(url: str, provider_model: str = "openai/gpt-x", api_key_env: str = "TEST_PROVIDER_KEY") -> ProviderRoute:
    return ProviderRoute(
        model="other",
        provider_model=provider_model,
        api_base=f"{url}/v1",
        api_key_env=api_key_env,
        allow_private=True,
    )


async def test_chat_goes_out_with_the_operators_key_and_is_counted():
    async with (
        Upstream(answers(chat_answer("Hello", model="gpt-x"))) as provider,
        front_door(providers=(a_provider(provider.url),), litellm=True) as door,
    ):
        async with door.client.post(
            door.url + CHAT, json={"model": "other", "messages": HI, "max_tokens": 5}
        ) as response:
            document = await response.json()
            assert response.status == 200, document
        assert document["choices"][0]["message"]["content"] == "Hello"
        request = await provider.request()
        assert request.headers["authorization"] == f"Bearer {PROVIDER_KEY}"
        assert (request.document["model"], request.document["max_tokens"]) == ("gpt-x", 5)
        assert KEY not in str(request)
        record = await door.record()
        assert (record.prompt_tokens, record.completion_tokens, record.provider) == (7, 3, "openai")


@pytest.mark.parametrize("asks", [False, True])
async def test_streams_are_counted_whether_the_client_asked_or_not(asks: bool):
    async with (
        Upstream(streams(chat_chunks("a", "b", model="gpt-x"))) as provider,
        front_door(providers=(a_provider(provider.url),), litellm=True) as door,
    ):
        body = {"model": "other", "messages": HI, "stream": True}
        if asks:
            body["stream_options"] = {"include_usage": True}
        async with door.client.post(door.url + CHAT, json=body) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            received = (await response.read()).decode()
        assert received.endswith("data: [DONE]\n\n")
        assert '"content":"a"' in received
        assert ('"completion_tokens":2' in received) is asks
        record = await door.record()
        assert (record.prompt_tokens, record.completion_tokens, record.finish) == (7, 2, "stop")


async def test_embeddings_and_completions_are_offered():
    vectors = {"object": "list", "model": "gpt-x", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}]}
    async with (
        Upstream(answers(vectors | {"usage": {"prompt_tokens": 2, "total_tokens": 2}})) as provider,
        front_door(providers=(a_provider(provider.url),), litellm=True) as door,
    ):
        async with door.client.post(f"{door.url}/v1/embeddings", json={"model": "other", "input": "x"}) as response:
            assert (await response.json())["data"][0]["embedding"] == [0.5]
        assert (await door.record()).prompt_tokens == 2
        text = {"id": "1", "object": "text_completion", "created": 1, "model": "gpt-x"}
        text |= {"choices": [{"index": 0, "text": "yes", "finish_reason": "stop", "logprobs": None}]}
        text |= {"usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}
        provider.script = answers(text)
        async with door.client.post(f"{door.url}/v1/completions", json={"model": "other", "prompt": "x"}) as response:
            assert (await response.json())["choices"][0]["text"] == "yes"


async def test_providers_refusal_keeps_its_status_and_loses_every_key():
    refused = {"error": {"message": f"no: {PROVIDER_KEY}", "type": "invalid_request_error", "code": "bad_thing"}}
    async with (
        Upstream(answers(refused, 400)) as provider,
        front_door(providers=(a_provider(provider.url),), litellm=True) as door,
    ):
        async with door.client.post(door.url + CHAT, json={"model": "other", "messages": HI}) as response:
            text = await response.text()
            assert response.status == 400
        assert PROVIDER_KEY not in text
        assert provider.url not in text
        assert (await door.record()).finish == "upstream_error"
        provider.script = answers(refused, 401)
        async with door.client.post(door.url + CHAT, json={"model": "other", "messages": HI}) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (502, "provider_refused_key")
        provider.script = answers(refused, 429)
        async with door.client.post(door.url + CHAT, json={"model": "other", "messages": HI}) as response:
            assert response.status == 429


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"])
async def test_provider_that_turns_out_to_be_inside_is_not_asked(host: str):
    async with Upstream(answers(chat_answer("secret"))) as provider:
        inside = a_provider(f"http://{host}:{provider.url.rpartition(':')[2]}")
        inside.allow_private = False
        async with (
            front_door(providers=(inside,), litellm=True) as door,
            door.client.post(door.url + CHAT, json={"model": "other", "messages": HI}) as response,
        ):
            document = await response.json()
        assert (response.status, document["error"]["code"]) == (502, "provider_address_refused"), document
        assert not provider.received


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("provider_model", ["openai/gpt-x", "hosted_vllm/gpt-x", "cohere_chat/command-r"])
@pytest.mark.parametrize("is_stream", [False, True])
async def test_provider_that_sends_elsewhere_is_not_followed(provider_model: str, status: int, is_stream: bool):
    async with (
        Upstream(answers(chat_answer("what only machines inside may see"))) as inside,
        Upstream(answers({}, status, f"Location: {inside.url}/v1/latest/meta-data")) as provider,
        front_door(providers=(a_provider(provider.url, provider_model),), litellm=True) as door,
    ):
        body = {"model": "other", "messages": HI, "stream": is_stream}
        async with door.client.post(door.url + CHAT, json=body) as response:
            document = await response.json()
        assert (response.status, document["error"]["code"]) == (502, "provider_redirects"), document
        assert inside.url not in str(document)
        assert provider.received
        assert not inside.received


# LiteLLM asks the first through httpx's own connections, the second through aiohttp's.
@pytest.mark.parametrize("provider_model", ["openai/gpt-x", "hosted_vllm/gpt-x"])
async def test_name_that_leads_inside_only_when_it_is_connected_to_is_refused(
    provider_model: str, monkeypatch: pytest.MonkeyPatch
):
    loop, looked_up = asyncio.get_running_loop(), []
    real = loop.getaddrinfo

    async def changing(host: str, port: int | None, **options: Any) -> Any:
        if host not in ("rebound.example", b"rebound.example"):
            return await real(host, port, **options)
        looked_up.append(host)
        address = "9.9.9.9" if len(looked_up) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port or 0))]

    monkeypatch.setattr(loop, "getaddrinfo", changing)
    async with Upstream(answers(chat_answer("secret"))) as inside:
        provider = a_provider(f"http://rebound.example:{inside.url.rpartition(':')[2]}", provider_model)
        provider.allow_private = False
        async with front_door(providers=(provider,), litellm=True) as door:
            async with door.client.post(door.url + CHAT, json={"model": "other", "messages": HI}) as response:
                document = await response.json()
            assert (response.status, document["error"]["code"]) == (502, "provider_address_refused"), document
            assert len(looked_up) > 1
            assert not inside.received


async def test_provider_that_dies_in_a_stream_ends_it_with_an_error_event():
    script = streams(chat_chunks("a", model="gpt-x")[:1], then="die")
    async with (
        Upstream(script) as provider,
        front_door(providers=(a_provider(provider.url),), litellm=True) as door,
        door.client.post(door.url + CHAT, json={"model": "other", "messages": HI, "stream": True}) as response,
    ):
        received = (await response.read()).decode()
        assert '"error"' in received.strip().split("\n\n")[-1]


async def test_client_that_leaves_frees_the_provider():
    script = streams(chat_chunks("a", model="gpt-x")[:1], then="hang")
    async with (
        Upstream(script) as provider,
        front_door(providers=(a_provider(provider.url),), litellm=True) as door,
    ):
        async with door.client.post(
            door.url + CHAT, json={"model": "other", "messages": HI, "stream": True}
        ) as response:
            await response.content.readany()
            response.close()
        await asyncio.wait_for((await provider.request()).gone.wait(), 5)
        assert (await door.record()).finish == "client_gone"


@pytest.mark.parametrize("field", ["api_base", "base_url", "api_key", "model_list", "extra_headers", "mock_response"])
async def test_client_cannot_steer_litellm(field: str):
    async with front_door(providers=(a_provider("http://127.0.0.1:1"),), litellm=True) as door:
        body = {"model": "other", "messages": HI, field: "http://evil"}
        async with door.client.post(door.url + CHAT, json=body) as response:
            error = (await response.json())["error"]
            assert (response.status, error["param"]) == (400, field)


async def test_missing_key_names_the_variable():
    providers = (a_provider("http://127.0.0.1:1", api_key_env="NOT_SET_ANYWHERE"),)
    async with (
        front_door(providers=providers, litellm=True) as door,
        door.client.post(door.url + CHAT, json={"model": "other", "messages": HI}) as response,
    ):
        error = (await response.json())["error"]
        assert (response.status, error["code"]) == (503, "provider_key_missing")
        assert "NOT_SET_ANYWHERE" in error["message"]


async def test_path_that_providers_do_not_have_is_501():
    async with (
        front_door(providers=(a_provider("http://127.0.0.1:1"),), litellm=True) as door,
        door.client.post(f"{door.url}/v1/rerank", json={"model": "other"}) as response,
    ):
        assert response.status == 501


async def test_lane_that_is_off_says_so_and_leaves_the_fleet_alone():
    async with (
        Upstream() as engine,
        front_door(a_route("tiny", engine.url), providers=(a_provider("http://127.0.0.1:1"),)) as door,
    ):
        async with door.client.post(door.url + CHAT, json={"model": "other", "messages": HI}) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (501, "provider_lane_off")
        async with door.client.post(door.url + CHAT, json={"model": "tiny"}) as response:
            assert response.status == 200


RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "model": "gpt-x",
    "status": "completed",
    "output": [],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "usage": {
        "input_tokens": 4,
        "output_tokens": 2,
        "total_tokens": 6,
        "input_tokens_details": {"cached_tokens": 1},
        "output_tokens_details": {"reasoning_tokens": 0},
    },
}


# LiteLLM streams responses only for models that it knows to.
STREAMS_RESPONSES = "openai/gpt-4o"


async def test_responses_are_offered_whole_and_streamed():
    async with (
        Upstream(answers(RESPONSE)) as provider,
        front_door(providers=(a_provider(provider.url, STREAMS_RESPONSES),), litellm=True) as door,
    ):
        async with door.client.post(f"{door.url}/v1/responses", json={"model": "other", "input": "x"}) as response:
            assert response.status == 200, await response.text()
        record = await door.record()
        assert (record.prompt_tokens, record.completion_tokens, record.cached_tokens) == (4, 2, 1)
        events = [
            event(
                {
                    "type": "response.output_text.delta",
                    "delta": "a",
                    "item_id": "i",
                    "output_index": 0,
                    "content_index": 0,
                }
            ),
            event({"type": "response.completed", "response": RESPONSE}),
        ]
        provider.script = streams(events)
        body = {"model": "other", "input": "x", "stream": True}
        async with door.client.post(f"{door.url}/v1/responses", json=body) as response:
            received = (await response.read()).decode()
        assert "event: response.output_text.delta\ndata: {" in received
        assert "event: response.completed\ndata: {" in received
        assert (await door.record(1)).completion_tokens == 2


async def test_anthropic_messages_are_translated():
    async with (
        Upstream(answers(RESPONSE)) as provider,
        front_door(providers=(a_provider(provider.url),), litellm=True) as door,
    ):
        body = {"model": "other", "max_tokens": 20, "messages": HI}
        async with door.client.post(f"{door.url}/v1/messages", json=body) as response:
            document = await response.json()
            assert response.status == 200, document
        assert document["type"] == "message"
        record = await door.record()
        assert (record.prompt_tokens, record.completion_tokens) == (4, 2)
