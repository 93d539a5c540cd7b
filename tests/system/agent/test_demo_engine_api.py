"""The demo engine over real HTTP: the OpenAI API, metrics, sleep."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest
from fakes.demo_process import DemoProcess, demo_engine
from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.replica_pb2 import ReplicaFigures
from studio_agent.engines import driver_for

HELLO = [{"role": "user", "content": "hello there"}]


@pytest.fixture
async def engine() -> AsyncIterator[DemoProcess]:
    async with demo_engine("--max-model-len", "200") as started:
        yield started


@pytest.fixture
async def client(engine: DemoProcess) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{engine.url}/v1", api_key="none", max_retries=0) as opened:
        yield opened


async def get(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


async def figures(url: str) -> ReplicaFigures:
    return driver_for("demo").figures((await get(f"{url}/metrics"))[1], Timestamp())


async def until_running(url: str, running: int, waiting: int = 0) -> ReplicaFigures:
    async with asyncio.timeout(10):
        while True:
            now = await figures(url)
            if (now.running, now.waiting) == (running, waiting):
                return now
            await asyncio.sleep(0.01)


async def post(url: str, body: Any, **headers: str) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body)
    async with aiohttp.ClientSession() as session, session.post(url, data=data, headers=headers) as answer:
        text = await answer.text()
        return answer.status, json.loads(text) if text else None


async def test_it_says_that_it_is_no_model(client: openai.AsyncOpenAI):
    models = [model async for model in client.models.list()]
    assert [(model.id, model.owned_by) for model in models] == [
        ("demo", "vllm-studio-demo"),
        ("alias", "vllm-studio-demo"),
    ]
    answer = await client.chat.completions.create(model="alias", messages=HELLO)
    assert answer.system_fingerprint == "vllm-studio-demo (stand-in, not a model)"
    assert "stand-in, not a model" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "alias"


async def test_the_same_prompt_has_the_same_answer(client: openai.AsyncOpenAI):
    answers = [await client.completions.create(model="demo", prompt="hello", max_tokens=9) for _ in range(2)]
    assert answers[0].choices[0].text == answers[1].choices[0].text
    assert answers[0].choices[0].finish_reason == "length"
    assert answers[0].usage is not None
    assert (answers[0].usage.prompt_tokens, answers[0].usage.completion_tokens) == (1, 9)


async def test_a_stream_is_the_whole_answer_in_tokens(client: openai.AsyncOpenAI):
    whole = await client.chat.completions.create(model="demo", messages=HELLO, max_tokens=80)
    stream = await client.chat.completions.create(
        model="demo", messages=HELLO, max_completion_tokens=80, stream=True, stream_options={"include_usage": True}
    )
    events = [event async for event in stream]
    text = "".join(event.choices[0].delta.content or "" for event in events if event.choices)
    assert text == whole.choices[0].message.content
    assert events[0].choices[0].delta.role == "assistant"
    assert events[-2].choices[0].finish_reason == "length"
    assert events[-1].choices == []
    assert events[-1].usage == whole.usage
    assert [event.usage for event in events[:-1]] == [None] * 82


async def test_no_usage_in_a_stream_that_did_not_ask(client: openai.AsyncOpenAI):
    stream = await client.completions.create(model="demo", prompt="x", max_tokens=3, stream=True)
    events = [event async for event in stream]
    assert [event.usage for event in events] == [None] * 4
    assert events[-1].choices[0].finish_reason == "length"


@pytest.mark.parametrize("stop", ["not a", ["never said", "not a"]])
async def test_it_stops_at_a_stop(client: openai.AsyncOpenAI, stop: str | list[str]):
    answer = await client.completions.create(model="demo", prompt="x", stop=stop, max_tokens=100)
    assert answer.choices[0].text.endswith("a stand-in, ")
    assert answer.choices[0].finish_reason == "stop"


async def test_embeddings_are_unit_vectors(client: openai.AsyncOpenAI):
    answer = await client.embeddings.create(model="demo", input=["one", "two", "one"])
    vectors = [item.embedding for item in answer.data]
    assert vectors[0] == vectors[2] != vectors[1]
    assert sum(value * value for value in vectors[0]) == pytest.approx(1)
    assert answer.usage.prompt_tokens == 3
    short = await client.embeddings.create(model="demo", input="one", dimensions=8, encoding_format="float")
    assert len(short.data[0].embedding) == 8


async def test_another_model_is_not_found(client: openai.AsyncOpenAI):
    with pytest.raises(openai.NotFoundError) as refused:
        await client.chat.completions.create(model="other", messages=HELLO)
    assert refused.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"model"', "not JSON"),
        (b"[1]", "JSON object"),
        (b"\xff\xfe", "not JSON"),
        ({"model": "demo"}, "prompt"),
        ({"model": "demo", "prompt": ["a", 1]}, "prompt"),
        ({"model": "demo", "prompt": "a", "n": 2}, "n must be 1"),
        ({"model": "demo", "prompt": "a", "max_tokens": 0}, "max_tokens"),
        ({"model": "demo", "prompt": "a", "max_tokens": "5"}, "max_tokens"),
        ({"model": "demo", "prompt": "a", "max_tokens": 200}, "maximum context length is 200"),
        ({"model": "demo", "prompt": "a " * 200}, "maximum context length is 200"),
    ],
)
async def test_bad_requests_get_openai_errors(engine: DemoProcess, body: Any, said: str):
    status, answer = await post(f"{engine.url}/v1/completions", body)
    assert status == 400
    assert set(answer["error"]) == {"message", "type", "param", "code"}
    assert said in answer["error"]["message"]


async def test_bad_chats_get_openai_errors(engine: DemoProcess):
    for messages in ([], "hi", [1], None):
        status, answer = await post(f"{engine.url}/v1/chat/completions", {"model": "demo", "messages": messages})
        assert (status, answer["error"]["param"]) == (400, "messages")


async def test_metrics_move(engine: DemoProcess, client: openai.AsyncOpenAI):
    before = await figures(engine.url)
    assert (before.running, before.waiting, before.kv_used_share, before.generation_tokens_total) == (0, 0, 0, 0)
    prompt = "word " * 40
    for _ in range(2):
        await client.completions.create(model="demo", prompt=prompt, max_tokens=5)
    after = await until_running(engine.url, 0)
    assert (after.prompt_tokens_total, after.generation_tokens_total) == (82, 10)
    # Blocks of 16 tokens: 32 of the second prompt's were there.
    assert after.prefix_hit_share == pytest.approx(32 / 82)
    assert (after.time_to_first_token_seconds.count, after.inter_token_seconds.count) == (2, 8)
    assert after.kv_used_share == 0


async def test_sleep_and_wake(engine: DemoProcess, client: openai.AsyncOpenAI):
    assert (await post(f"{engine.url}/sleep?level=2", {}))[0] == 200
    with pytest.raises(openai.InternalServerError) as refused:
        await client.chat.completions.create(model="demo", messages=HELLO)
    assert (refused.value.status_code, refused.value.code) == (503, "engine_paused")
    assert await get(f"{engine.url}/is_sleeping") == (200, '{"is_sleeping": true}')
    assert (await get(f"{engine.url}/health"))[0] == 200
    page = (await get(f"{engine.url}/metrics"))[1]
    assert 'sleep_state="discard_all"} 1.0' in page
    assert 'sleep_state="awake"} 0.0' in page
    assert (await post(f"{engine.url}/wake_up", {}))[0] == 200
    await client.chat.completions.create(model="demo", messages=HELLO)
    assert (await post(f"{engine.url}/sleep?level=7", {}))[0] == 400


async def test_tokenize_counts_as_usage_does(engine: DemoProcess, client: openai.AsyncOpenAI):
    _, counted = await post(f"{engine.url}/tokenize", {"model": "demo", "messages": HELLO})
    answer = await client.chat.completions.create(model="demo", messages=HELLO)
    assert answer.usage is not None
    assert counted["count"] == len(counted["tokens"]) == answer.usage.prompt_tokens
    assert counted["max_model_len"] == 200


async def test_it_logs_what_was_forwarded(engine: DemoProcess):
    await post(
        f"{engine.url}/v1/completions",
        {"model": "demo", "prompt": "x"},
        **{"x-request-id": "r-1", "traceparent": "00-a-b-01"},
    )
    assert "traceparent=00-a-b-01" in await engine.said("x-request-id=r-1")


async def test_a_client_that_leaves_frees_its_slot():
    body = {"model": "demo", "prompt": "x", "max_tokens": 1000, "stream": True}
    async with (
        demo_engine("--tokens-per-second", "5", "--max-num-seqs", "1") as engine,
        aiohttp.ClientSession() as session,
    ):
        async with session.post(f"{engine.url}/v1/completions", json=body) as first:
            await first.content.readany()
            waiting = asyncio.ensure_future(session.post(f"{engine.url}/v1/completions", json=body))
            assert (await until_running(engine.url, 1, waiting=1)).kv_used_share > 0
        # Leaving the block with an answer half read closed its connection.
        async with await waiting as second:
            await second.content.readany()
            await until_running(engine.url, 1)
        assert (await until_running(engine.url, 0)).kv_used_share == 0
