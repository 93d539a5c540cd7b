"""Keys, models, limits and paths: what the gateway answers by itself."""

import asyncio
import time

import aiohttp
import openai
import pytest
from fakes.front_door import KEY, QUICK, a_route, a_route_table, an_access_table, an_api_key, front_door
from fakes.upstream import Upstream, answers, chat_answer, chat_chunks, streams
from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.route_pb2 import ProviderRoute
from studio_gateway.limits import Limits

CHAT = "/v1/chat/completions"
HI = [{"role": "user", "content": "hi"}]


def openai_client(url: str, key: str = KEY) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


async def test_official_client_chats_streams_and_embeds():
    async with (
        Upstream(answers(chat_answer("Hello"))) as upstream,
        front_door(a_route("tiny", upstream.url)) as door,
        openai_client(door.url) as client,
    ):
        answer = await client.chat.completions.create(model="tiny", messages=HI)
        assert answer.choices[0].message.content == "Hello"
        assert answer.usage is not None
        assert answer.usage.total_tokens == 10
        upstream.script = streams(chat_chunks("a", "b"))
        stream = await client.chat.completions.create(model="tiny", messages=HI, stream=True)
        chunks = [chunk async for chunk in stream]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "ab"
        vectors = {
            "object": "list",
            "model": "tiny",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
        }
        upstream.script = answers(vectors | {"usage": {"prompt_tokens": 1, "total_tokens": 1}})
        embedded = await client.embeddings.create(model="tiny", input="x", encoding_format="float")
        assert embedded.data[0].embedding == [0.5]
        models = await client.models.list()
        assert [model.id for model in models.data] == ["tiny"]


async def test_official_client_understands_the_refusals():
    async with front_door(a_route("tiny")) as door:
        async with openai_client(door.url, "sk-abcdefghijkl-wrong") as client:
            with pytest.raises(openai.AuthenticationError, match="Incorrect API key"):
                await client.chat.completions.create(model="tiny", messages=HI)
        async with openai_client(door.url) as client:
            with pytest.raises(openai.NotFoundError) as caught:
                await client.chat.completions.create(model="unheard-of", messages=HI)
            assert caught.value.code == "model_not_found"
            assert "tiny" in str(caught.value)


async def test_official_client_that_breaks_off_frees_the_engine():
    script = streams(chat_chunks("a")[:1], then="hang")
    async with Upstream(script) as upstream, front_door(a_route("tiny", upstream.url)) as door:
        async with openai_client(door.url) as client:
            stream = await client.chat.completions.create(model="tiny", messages=HI, stream=True)
            await anext(aiter(stream))
            await stream.close()
        await asyncio.wait_for((await upstream.request()).gone.wait(), 1)


async def test_engine_that_dies_raises_in_the_official_client():
    script = streams(chat_chunks("a")[:1], then="die")
    async with (
        Upstream(script) as upstream,
        front_door(a_route("tiny", upstream.url)) as door,
        openai_client(door.url) as client,
    ):
        stream = await client.chat.completions.create(model="tiny", messages=HI, stream=True)
        with pytest.raises(openai.APIError, match="broke off"):
            async for _ in stream:
                pass


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer nonsense"},
        {"Authorization": "Bearer sk-zzzzzzzzzzzz-" + "s" * 43},
        {"Authorization": f"Bearer {KEY}x"},
        {"Authorization": f"Basic {KEY}"},
        {"x-api-key": "sk-abcdefghijkl-"},
    ],
)
async def test_every_wrong_key_is_401(headers: dict[str, str]):
    async with front_door(a_route("tiny")) as door, aiohttp.ClientSession(headers=headers) as client:
        async with client.get(f"{door.url}/v1/models") as response:
            assert response.status == 401
            assert (await response.json())["error"]["code"] == "invalid_api_key"
        assert door.records == []


async def test_expired_and_revoked_keys_are_told_so():
    past = Timestamp(seconds=int(time.time()) - 60)
    for fields, word in (({"expires_at": past}, "expired"), ({"revoked_at": past}, "revoked")):
        async with (
            front_door(a_route("tiny"), access=an_access_table(an_api_key(**fields))) as door,
            door.client.get(f"{door.url}/v1/models") as response,
        ):
            assert response.status == 401
            assert word in (await response.json())["error"]["message"]


async def test_key_sees_and_uses_only_its_models():
    access = an_access_table(an_api_key(models=["a", "alias-of-b"]))
    routes = (a_route("a", aliases=["a2"]), a_route("b", aliases=["alias-of-b"]), a_route("c"))
    async with front_door(*routes, access=access) as door:
        async with door.client.get(f"{door.url}/v1/models") as response:
            listed = await response.json()
        assert [model["id"] for model in listed["data"]] == ["a", "a2", "alias-of-b"]
        assert {model["owned_by"] for model in listed["data"]} == {"vllm-studio"}
        for name, status in (("a", 503), ("alias-of-b", 503), ("b", 404), ("c", 404), ("d", 404)):
            async with door.client.post(door.url + CHAT, json={"model": name}) as response:
                assert response.status == status, name
        async with door.client.get(f"{door.url}/v1/models/c") as response:
            assert response.status == 404
            assert "'c' does not exist" in (await response.json())["error"]["message"]


async def test_models_of_providers_and_names_with_slashes_are_listed():
    providers = (ProviderRoute(model="other/big", provider_model="openai/big"),)
    async with front_door(a_route("org/tiny"), providers=providers) as door:
        async with door.client.get(f"{door.url}/v1/models") as response:
            assert [model["id"] for model in (await response.json())["data"]] == ["org/tiny", "other/big"]
        async with door.client.get(f"{door.url}/v1/models/org/tiny") as response:
            assert (await response.json())["id"] == "org/tiny"


@pytest.mark.parametrize(
    ("reason", "code"),
    [("no replica of tiny is ready yet", "model_starting"), ("tiny is stopped", "model_unavailable")],
)
async def test_model_without_an_engine_is_503_with_the_reason(reason: str, code: str):
    starting = code == "model_starting"
    async with front_door(a_route("tiny", unavailable_reason=reason, starting=starting)) as door:
        async with door.client.post(door.url + CHAT, json={"model": "tiny"}) as response:
            assert response.status == 503
            assert int(response.headers["retry-after"]) > 0
            error = (await response.json())["error"]
        assert error["code"] == code
        assert reason in error["message"]
        assert (await door.record()).finish == "unavailable"


async def test_gateway_without_tables_is_not_ready_and_never_says_401():
    async with front_door() as door:
        door.in_force.keys = None
        door.in_force.routes = None
        async with door.client.get(f"{door.url}/v1/models") as response:
            assert response.status == 503
        async with door.client.get(f"{door.url}/ready") as response:
            assert response.status == 503
        async with door.client.get(f"{door.url}/health") as response:
            assert response.status == 200
        door.in_force.put_routes(a_route_table())
        door.in_force.put_access(an_access_table())
        async with door.client.get(f"{door.url}/ready") as response:
            assert (response.status, await response.json()) == (200, {"ready": True, "routes": 1, "keys": 1})


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/metrics",
        "/v1",
        "/v2/models",
        "/v1/../metrics",
        "/v1/%2e%2e/metrics",
        "/v1//health",
        "/v1/a/%2E/b",
        "/v1/..%5Cx",
        "/%76%31/chat/completions",
        "/v1/load_lora_adapter",
        "/v1/unload_lora_adapter",
    ],
)
async def test_only_clean_paths_below_v1_reach_an_engine(target: str):
    async with Upstream() as upstream, front_door(a_route("tiny", upstream.url)) as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(door.url.rpartition(":")[2]))
        body = b'{"model":"tiny"}'
        lines = [f"POST {target} HTTP/1.1", "Host: x", f"Authorization: Bearer {KEY}", f"Content-Length: {len(body)}"]
        writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode() + body)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        assert answer.startswith(b"HTTP/1.1 404")
        assert upstream.received == []


async def test_body_over_the_limit_is_413_and_the_connection_closes():
    limits = Limits(body_bytes=1000)
    async with (
        front_door(a_route("tiny"), limits=limits) as door,
        door.client.post(door.url + CHAT, data=b"{" + b" " * 2000) as response,
    ):
        assert response.status == 413
        assert response.headers["connection"] == "close"


async def test_body_that_never_arrives_is_408():
    async with front_door(a_route("tiny"), limits=Limits(body_idle_seconds=0.2)) as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(door.url.rpartition(":")[2]))
        writer.write(
            f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 9\r\n\r\n{{".encode()
        )
        assert (await reader.read()).startswith(b"HTTP/1.1 408")
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "missing_model"),
        (b"{}", "missing_model"),
        (b'{"model":""}', "missing_model"),
        (b'{"model":7}', "invalid_body"),
        (b'{"model":"tiny"', "invalid_body"),
        (b'{"model":"tiny","model":"other"}', "invalid_body"),
        (b'{"model":"tiny"} trailing', "invalid_body"),
        (b"{" + b'"a":[' * 1 + b"[" * 100_000, "invalid_body"),
        (b'{"model":"\xff"}', "invalid_body"),
    ],
)
async def test_bodies_that_cannot_be_understood_are_400(body: bytes, code: str):
    async with (
        front_door(a_route("tiny")) as door,
        door.client.post(door.url + CHAT, data=body, headers={"content-type": "application/json"}) as response,
    ):
        assert response.status == 400
        assert (await response.json())["error"]["code"] == code


async def test_drain_lets_a_stream_finish():
    gate = asyncio.Event()
    script = streams(chat_chunks("a", "b"), gate=gate)
    async with Upstream(script) as upstream, front_door(a_route("tiny", upstream.url)) as door:
        async with door.client.post(door.url + CHAT, json={"model": "tiny", "stream": True}) as response:
            await response.content.readany()
            door.serving.cancel()
            await _until_refused(door.url)
            gate.set()
            assert (await response.read()).endswith(b"data: [DONE]\n\n")
        assert (await door.record()).finish == "stop"


async def test_drain_ends_what_takes_too_long_with_an_error_event():
    script = streams(chat_chunks("a")[:1], then="hang")
    limits = Limits(drain_seconds=0.2)
    async with Upstream(script) as upstream, front_door(a_route("tiny", upstream.url), limits=limits) as door:
        async with door.client.post(door.url + CHAT, json={"model": "tiny", "stream": True}) as response:
            await response.content.readany()
            door.serving.cancel()
            assert b"shutting_down" in await response.read()
        assert (await door.record()).finish == "shutting_down"
        await asyncio.wait_for((await upstream.request()).gone.wait(), 5)


async def _until_refused(url: str) -> None:
    async with asyncio.timeout(5):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
            except ConnectionError:
                # Refused, or reset by the listener that closed under it.
                return
            writer.close()
            await asyncio.sleep(0.01)


async def test_client_that_does_not_read_does_not_hold_the_gateway():
    big = b"data: " + b"x" * 60_000 + b"\n\n"
    limits = Limits(idle_seconds=0.3)
    async with (
        Upstream(streams([big] * 400)) as upstream,
        front_door(a_route("tiny", upstream.url), limits=limits) as door,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(door.url.rpartition(":")[2]), limit=1024)
        body = b'{"model":"tiny","stream":true}'
        lines = [
            f"POST {CHAT} HTTP/1.1",
            "Host: x",
            f"Authorization: Bearer {KEY}",
            f"Content-Length: {len(body)}",
            "",
            "",
        ]
        writer.write("\r\n".join(lines).encode() + body)
        assert (await door.record()).finish == "timeout"
        assert QUICK.idle_seconds > limits.idle_seconds
        writer.close()
        del reader
