"""The JSON objects of the OpenAI API, as the demo engine fills them."""

import time
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

FINGERPRINT = "vllm-studio-demo (stand-in, not a model)"
OWNER = "vllm-studio-demo"


class ApiError(Exception):
    """A request is refused: HTTP status and the fields of an OpenAI error."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        kind = "invalid_request_error" if status < 500 else "service_unavailable_error"  # noqa: PLR2004 - HTTP classes
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


class Answer:
    """The objects of one answer; they share id, time and model. ``chat`` says which of the two dialects."""

    def __init__(self, model: str, chat: bool) -> None:
        self._chat = chat
        self._head = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{uuid4().hex}",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": FINGERPRINT,
        }

    def whole(self, content: str, finish_reason: str, usage: dict[str, int]) -> dict[str, Any]:
        """The answer to a request that does not stream."""
        said = {"message": {"role": "assistant", "content": content}} if self._chat else {"text": content}
        kind = "chat.completion" if self._chat else "text_completion"
        return {**self._head, "object": kind, "choices": [_choice(said, finish_reason)], "usage": usage}

    def opening(self) -> dict[str, Any] | None:
        """The first event of a chat stream, which says the role; plain completions have none."""
        return self._event([_choice({"delta": {"role": "assistant", "content": ""}}, None)]) if self._chat else None

    def token(self, content: str) -> dict[str, Any]:
        """The event of one token."""
        return self._event([_choice({"delta": {"content": content}} if self._chat else {"text": content}, None)])

    def closing(self, finish_reason: str) -> dict[str, Any]:
        """The event that says why the answer ended."""
        return self._event([_choice({"delta": {}} if self._chat else {"text": ""}, finish_reason)])

    def usage(self, usage: dict[str, int]) -> dict[str, Any]:
        """The event after the last one where the client asked for usage: no choices."""
        return {**self._event([]), "usage": usage}

    def _event(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            **self._head,
            "object": "chat.completion.chunk" if self._chat else "text_completion",
            "choices": choices,
        }


def _choice(said: dict[str, Any], finish_reason: str | None) -> dict[str, Any]:
    return {"index": 0, **said, "logprobs": None, "finish_reason": finish_reason}


def model_list(names: Sequence[str], adapters: dict[str, str], max_model_len: int) -> dict[str, Any]:
    """The page of `/v1/models`: the model under each of ``names``, and its ``adapters`` by name, with where they came from."""
    roots = dict.fromkeys(names, names[0]) | adapters
    return {
        "object": "list",
        "data": [
            {
                "id": name,
                "object": "model",
                "created": int(time.time()),
                "owned_by": OWNER,
                "root": root,
                "parent": names[0] if name in adapters else None,
                "max_model_len": max_model_len,
            }
            for name, root in roots.items()
        ],
    }
