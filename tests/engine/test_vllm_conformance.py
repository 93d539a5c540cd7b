"""The official clients get from the gateway, field by field, what they get from vLLM itself."""

import json
from typing import Any

import httpx
import pytest
from fakes.conformance import ASKS, HELLO, Door, chat, completion, told
from fakes.whole_system import TINY_MODEL, System


def response(door: Door, **fields: Any) -> Any:
    with door.openai() as client:
        asked = {"input": "Tell me of the sea.", "max_output_tokens": 16, "temperature": 0, **fields}
        answer = client.responses.create(model=door.model, **asked)
        return [event.model_dump() for event in answer] if fields.get("stream") else answer.model_dump()


def raw(door: Door, path: str, body: dict[str, Any]) -> Any:
    """What no official client has a method for."""
    headers = {"authorization": f"Bearer {door.key}"}
    answer = httpx.post(door.url + path, json={"model": door.model, **body}, headers=headers, timeout=60)
    return {"status": answer.status_code, "body": json.loads(answer.content)}


def _by_choice(events: list[Any]) -> Any:
    """Two answers are written at once, in no order."""
    return [[one for one in events if one["choices"] and one["choices"][0]["index"] == index] for index in (0, 1)]


HERE = ASKS | {
    "two answers": lambda door: chat(door, n=2, temperature=0.5),
    "two answers at once in a stream": lambda door: _by_choice(chat(door, n=2, stream=True, temperature=0.5)),
    "log probabilities": lambda door: chat(door, logprobs=True, top_logprobs=2),
    "completion with log probabilities": lambda door: completion(door, logprobs=2),
    "completion of tokens": lambda door: completion(door, prompt=[1, 2, 3]),
    "completion with echo": lambda door: completion(door, echo=True),
    "structured output": lambda door: chat(door, extra_body={"structured_outputs": {"choice": ["yes", "no"]}}),
    "response": response,
    "response stream": lambda door: response(door, stream=True),
    "an API that this model lacks": lambda door: raw(door, "/v1/embeddings", {"input": "sea"}),
    "score": lambda door: raw(door, "/v1/score", {"text_1": "sea", "text_2": "land"}),
    "token count of a message": lambda door: raw(door, "/v1/messages/count_tokens", {"messages": HELLO}),
}


@pytest.fixture(scope="module")
def doors(system: System) -> tuple[Door, Door]:
    up = system.up
    replica = system.ready_replica(f"{TINY_MODEL}-1")
    return Door(replica["base_url"], "none", TINY_MODEL), Door(up["gateway_url"], up["api_key"], TINY_MODEL)


# vLLM signs the last event of a stream, which is the usage event where usage is asked for. The gateway asks for it and takes the
# event out again where the client did not ask: of those streams the signature is lost.
UNSIGNED = frozenset(("chat stream", "completion stream", "two answers at once in a stream"))


def unsigned(answer: Any) -> Any:
    """An answer without the engine's signature."""
    if isinstance(answer, dict):
        return {name: unsigned(value) for name, value in answer.items() if name != "system_fingerprint"}
    return [unsigned(one) for one in answer] if isinstance(answer, list) else answer


@pytest.mark.parametrize("name", HERE)
def test_the_same_answer(doors: tuple[Door, Door], name: str) -> None:
    direct, through = doors
    # Once before: what is in the prefix cache is said in the answer.
    HERE[name](direct)
    expected, answer = told(HERE[name](direct)), told(HERE[name](through))
    if name in UNSIGNED:
        expected, answer = unsigned(expected), unsigned(answer)
    assert answer == expected
    assert answer
