"""``studio up --engine vllm`` serves a real model, and the official client gets from the gateway what it expects of OpenAI."""

import json
import os
import signal
from collections.abc import Iterator

import openai
import pytest
from fakes.whole_system import TINY_MODEL as MODEL
from fakes.whole_system import System, eventually, is_free, is_running
from openai.types.chat import ChatCompletionMessageParam

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]


@pytest.fixture
def client(system: System) -> Iterator[openai.OpenAI]:
    up = system.up
    with openai.OpenAI(base_url=up["gateway_url"] + "/v1", api_key=up["api_key"], max_retries=0) as client:
        yield client


def test_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=8, temperature=0)
    assert answer.model == MODEL
    # No stand-in answered.
    assert (answer.system_fingerprint or "").startswith("vllm-0.")
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 8
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 8
    assert answer.choices[0].finish_reason == "length"


def test_a_stream_says_the_same_as_the_whole_answer_and_ends_with_usage(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=12, temperature=0, seed=1)
    chunks = list(
        client.chat.completions.create(
            model=MODEL,
            messages=HELLO,
            max_tokens=12,
            temperature=0,
            seed=1,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    assert all(chunk.choices for chunk in chunks[:-1])


def test_a_stream_that_did_not_ask_for_usage_gets_none_and_is_counted_all_the_same(system: System) -> None:
    # A key of its own: what other requests used arrives whenever it does.
    made = json.loads(system.studio("keys", "create", "counted", "-o", "json").stdout)
    client = openai.OpenAI(base_url=system.up["gateway_url"] + "/v1", api_key=made["secret"], max_retries=0)

    def known() -> bool:
        try:
            return bool(client.models.list().data)
        except openai.AuthenticationError:
            return False

    def counted() -> int:
        rows = system.listed("usage", "--by", "key")
        return sum(int(row["completion_tokens"]) for row in rows if row.get("key_id") == made["key"]["id"])

    assert eventually(known)
    chunks = list(
        client.chat.completions.create(
            model=MODEL, messages=HELLO, max_tokens=7, stream=True, extra_body={"ignore_eos": True}
        )
    )
    assert all(chunk.usage is None for chunk in chunks)
    assert all(chunk.choices for chunk in chunks)
    assert eventually(lambda: counted() == 7)


def test_completions_and_tokenize_are_forwarded_as_they_are(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt="hello", max_tokens=3)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL


def test_an_unknown_model_is_404_model_not_found_with_the_known_names(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-4", messages=HELLO)
    assert caught.value.code == "model_not_found"
    assert MODEL in caught.value.message


def test_a_wrong_key_is_401(system: System) -> None:
    stranger = openai.OpenAI(base_url=system.up["gateway_url"] + "/v1", api_key="sk-wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError) as caught:
        stranger.chat.completions.create(model=MODEL, messages=HELLO)
    assert caught.value.code == "invalid_api_key"


def test_figures_of_the_engine_show_in_ps(system: System) -> None:
    figures = eventually(lambda: system.replica(f"{MODEL}-1").get("figures"))
    assert figures
    assert "kv_used_share" in figures
    assert int(figures["generation_tokens_total"]) >= 0


def test_the_agent_is_killed_during_a_stream_and_the_stream_is_whole(system: System, client: openai.OpenAI) -> None:
    engine, agent = system.replica(f"{MODEL}-1")["pid"], system.pid("agent")
    stream = client.chat.completions.create(
        model=MODEL,
        messages=HELLO,
        max_tokens=400,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"ignore_eos": True},
    )
    chunks = iter(stream)
    first = next(chunks)
    os.kill(agent, signal.SIGKILL)
    rest = list(chunks)
    assert first.choices
    assert rest[-1].usage is not None
    assert rest[-1].usage.completion_tokens == 400
    eventually(lambda: system.pid("agent") != agent and system.replica(f"{MODEL}-1")["state"] == "READY")
    assert system.replica(f"{MODEL}-1")["pid"] == engine


def test_stop_ends_every_process_of_the_engine(system: System) -> None:
    row = system.replica(f"{MODEL}-1")
    port = int(row["base_url"].rpartition(":")[2])
    system.studio("stop", MODEL)
    assert not is_running(row["pid"])
    assert is_free(port)
    assert not [process for process in system.processes() if "VLLM" in process.name()]
