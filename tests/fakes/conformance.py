"""What the official clients get from an engine, so that it can be asked twice: directly and through the gateway."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anthropic
import openai

# Of each answer anew, wherever it comes from.
ALWAYS_NEW = frozenset(
    ("id", "item_id", "created", "request_id", "_request_id", "created_at", "completed_at", "sequence_number")
)


@dataclass(frozen=True)
class Door:
    """One way to the engine: its address without a path, and a key that is good there."""

    url: str
    key: str
    model: str

    def openai(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.key, max_retries=0)

    def anthropic(self) -> anthropic.Anthropic:
        return anthropic.Anthropic(base_url=self.url, api_key=self.key, max_retries=0)


Ask = Callable[[Door], Any]
HELLO = [{"role": "user", "content": "Tell me of the sea, in one line."}]
TURNS = [
    {"role": "system", "content": "You are terse."},
    *HELLO,
    {"role": "assistant", "content": "It is wide."},
    {"role": "user", "content": 'And \N{WATER WAVE} "deep"?'},
]
STEADY = {"temperature": 0, "seed": 7, "max_tokens": 12}


def chat(door: Door, **fields: Any) -> Any:
    with door.openai() as client:
        answer = client.chat.completions.create(model=door.model, **{"messages": HELLO, **STEADY, **fields})
        return [chunk.model_dump() for chunk in answer] if fields.get("stream") else answer.model_dump()


def completion(door: Door, **fields: Any) -> Any:
    with door.openai() as client:
        answer = client.completions.create(model=door.model, **{"prompt": "Once upon", **STEADY, **fields})
        return [chunk.model_dump() for chunk in answer] if fields.get("stream") else answer.model_dump()


def message(door: Door, **fields: Any) -> Any:
    with door.anthropic() as client:
        asked = {"messages": HELLO, "max_tokens": 12, "extra_body": {"temperature": 0}, **fields}
        answer = client.messages.create(model=door.model, **asked)
        return [event.model_dump() for event in answer] if fields.get("stream") else answer.model_dump()


def message_helper(door: Door) -> Any:
    """The client's own accumulation of a stream."""
    with (
        door.anthropic() as client,
        client.messages.stream(
            model=door.model, max_tokens=12, messages=HELLO, extra_body={"temperature": 0}
        ) as stream,
    ):
        return stream.get_final_message().model_dump()


def embedding(door: Door, **fields: Any) -> Any:
    with door.openai() as client:
        return client.embeddings.create(model=door.model, input=["sea", "land"], **fields).model_dump()


def refusal(ask: Ask) -> Ask:
    """The error that ``ask`` meets, as the client tells it."""

    def refused(door: Door) -> Any:
        try:
            ask(door)
        except (openai.APIStatusError, anthropic.APIStatusError) as error:
            return {"status": error.status_code, "kind": type(error).__name__, "body": error.body}
        raise AssertionError("nothing was refused")

    return refused


# Of every engine.
ASKS: dict[str, Ask] = {
    "chat": chat,
    "chat of several turns": lambda door: chat(door, messages=TURNS),
    "chat stream": lambda door: chat(door, stream=True),
    "chat stream with usage": lambda door: chat(door, stream=True, stream_options={"include_usage": True}),
    "chat with max_completion_tokens": lambda door: chat(door, max_tokens=None, max_completion_tokens=3),
    "chat with a stop": lambda door: chat(door, stop=["e"]),
    "completion": completion,
    "completion stream": lambda door: completion(door, stream=True),
    "completion stream with usage": lambda door: completion(door, stream=True, stream_options={"include_usage": True}),
    "message": message,
    "message with a system prompt": lambda door: message(door, system="You are terse."),
    "message stream": lambda door: message(door, stream=True),
    "message stream, accumulated": message_helper,
    "refused: a context too long": refusal(
        lambda door: chat(door, messages=[{"role": "user", "content": "a " * 60_000}])
    ),
    "refused: no messages": refusal(lambda door: chat(door, messages=[])),
    "refused: a bad length": refusal(lambda door: chat(door, max_tokens=-3)),
}


def told(answer: Any) -> Any:
    """An answer without what is new each time. Tokens that an engine put into one event, or did not, are folded."""
    if isinstance(answer, dict):
        return {name: told(value) for name, value in answer.items() if name not in ALWAYS_NEW}
    return _folded([told(one) for one in answer]) if isinstance(answer, list) else answer


def _folded(events: list[Any]) -> list[Any]:
    """Events that follow one another and differ in their text alone, as one."""
    folded: list[Any] = []
    for event in events:
        text, rest = _parted(event)
        if folded and text and folded[-1][1] == rest:
            folded[-1] = (folded[-1][0] + text, rest)
        else:
            folded.append((text, rest))
    return [[text, rest] if text else rest for text, rest in folded]


def _parted(event: Any) -> tuple[str, Any]:
    """The text that an event adds, and the event without it."""
    if not isinstance(event, dict):
        return "", event
    if isinstance(event.get("delta"), str):
        return event["delta"], event | {"delta": ""}
    if isinstance(event.get("delta"), dict) and event["delta"].get("text"):
        return event["delta"]["text"], event | {"delta": event["delta"] | {"text": ""}}
    match event.get("choices"):
        case [{"delta": {"content": str(text)} as delta} as choice] if text:
            return text, event | {"choices": [choice | {"delta": delta | {"content": ""}}]}
        case [{"text": str(text)} as choice] if text and "message" not in choice:
            return text, event | {"choices": [choice | {"text": ""}]}
    return "", event
