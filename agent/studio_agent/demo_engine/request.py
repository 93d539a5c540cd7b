"""What a client asks for, read from its JSON and checked."""

from dataclasses import dataclass
from typing import Any

from studio_agent.demo_engine import text
from studio_agent.demo_engine.openai_objects import ApiError


@dataclass(frozen=True)
class Ask:
    """One completion, ready to be answered."""

    model: str
    prompt_ids: list[int]
    # The whole answer, cut at `max_tokens` and at a stop.
    tokens: list[str]
    finish_reason: str
    stream: bool
    include_usage: bool

    def usage(self) -> dict[str, int]:
        """Token counts as the API gives them."""
        return {
            "prompt_tokens": len(self.prompt_ids),
            "completion_tokens": len(self.tokens),
            "total_tokens": len(self.prompt_ids) + len(self.tokens),
        }


def completion(body: dict[str, Any], prompt: str, model_names: tuple[str, ...], max_model_len: int) -> Ask:
    """Check ``body`` and write its answer. Raises ApiError."""
    model = known_model(body, model_names)
    if body.get("n") not in (None, 1):
        raise ApiError(400, "this engine gives one answer for a prompt: n must be 1", param="n")
    prompt_ids = text.token_ids(prompt)
    limit = _max_tokens(body)
    wanted = len(prompt_ids) + (limit or 1)
    if wanted > max_model_len:
        raise ApiError(
            400,
            f"This model's maximum context length is {max_model_len} tokens. However, you requested {wanted} tokens "
            f"({len(prompt_ids)} in the prompt, {limit or 1} for the answer).",
            param="messages" if "messages" in body else "prompt",
            code="context_length_exceeded",
        )
    tokens = text.answer(prompt, limit)[: max_model_len - len(prompt_ids)]
    tokens, stopped = text.cut_at_stop(tokens, _stops(body))
    options = body.get("stream_options") or {}
    return Ask(
        model=model,
        prompt_ids=prompt_ids,
        tokens=tokens,
        finish_reason="length" if limit and not stopped else "stop",
        stream=bool(body.get("stream")),
        include_usage=bool(isinstance(options, dict) and options.get("include_usage")),
    )


def known_model(body: dict[str, Any], model_names: tuple[str, ...]) -> str:
    """The model that ``body`` names. Raises ApiError (404) for another one."""
    model = body.get("model")
    if not isinstance(model, str) or model not in model_names:
        raise ApiError(404, f"The model `{model}` does not exist.", param="model", code="model_not_found")
    return model


def chat_prompt(body: dict[str, Any]) -> str:
    """The messages as one text. Raises ApiError (400)."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(one, dict) for one in messages):
        raise ApiError(400, "messages must be a list of at least one message", param="messages")
    return "\n".join(f"{one.get('role', 'user')}: {_content(one.get('content'))}" for one in messages)


def texts(value: Any, param: str) -> list[str]:
    """A text, or a list of texts, as a list. Raises ApiError (400)."""
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not found or not all(isinstance(one, str) for one in found):
        raise ApiError(400, f"{param} must be a text or a list of texts", param=param)
    return found


def _content(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return " ".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))


def _max_tokens(body: dict[str, Any]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ApiError(400, f"{name} must be a number of at least 1", param=name)
        return value
    return None


def _stops(body: dict[str, Any]) -> list[str]:
    stop = body.get("stop")
    return [] if stop is None else texts(stop, "stop")
