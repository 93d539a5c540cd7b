"""Token counts in the shapes that engines and providers give them ★.

======================= ==================================== =============================================
API                     where                                names
======================= ==================================== =============================================
chat, completions, …    ``usage``                            prompt_tokens, completion_tokens
responses               ``usage``, ``response.usage``        input_tokens, output_tokens
messages (Anthropic)    ``usage``, ``message.usage``         input_tokens, output_tokens, cache_read_…
======================= ==================================== =============================================
"""

import json
from dataclasses import dataclass
from typing import Any

DECODER = json.JSONDecoder()
# Above this many bytes an answer is not parsed whole: embeddings are large, and their usage stands at the end.
WHOLE_PARSE_BYTES = 256 * 1024


@dataclass(slots=True)
class Usage:
    """Counts of one request, in tokens; what a stream says later replaces what it said before."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0

    def take(self, usage: dict[str, Any]) -> None:
        """Read one ``usage`` object; names that it does not have keep their count."""
        prompt: int | None = _count(usage, "prompt_tokens", "input_tokens")
        cached: int | None = _count(usage, "cache_read_input_tokens")
        if cached is not None:
            # Anthropic counts what the cache had beside the rest of the prompt, not within it.
            beside = cached + (_count(usage, "cache_creation_input_tokens") or 0)
            prompt = prompt if prompt is None else prompt + beside
        details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
        if isinstance(details, dict):
            cached = _count(details, "cached_tokens")
        completion = _count(usage, "completion_tokens", "output_tokens")
        self.prompt = self.prompt if prompt is None else prompt
        self.cached = self.cached if cached is None else cached
        self.completion = self.completion if completion is None else completion

    def take_document(self, document: Any) -> None:
        """Read the ``usage`` of one answer or one event of a stream, wherever it stands."""
        if not isinstance(document, dict):
            return
        for holder in (document, document.get("response"), document.get("message")):
            if isinstance(holder, dict) and isinstance(holder.get("usage"), dict):
                self.take(holder["usage"])

    def take_answer(self, body: bytes) -> str:
        """Read a whole JSON answer; returns its finish reason, empty where it has none or is not JSON."""
        if len(body) > WHOLE_PARSE_BYTES:
            self.take_tail(body)
            return ""
        try:
            document = DECODER.decode(body.decode("utf-8"))
        except (ValueError, RecursionError):
            return ""
        self.take_document(document)
        return finish_of(document)

    def take_tail(self, body: bytes) -> None:
        """Read the last ``"usage": {…}`` in ``body``, which may lack its beginning.

        Inside a JSON string the quotes of the name would be escaped, so text of the model is never taken for it.
        """
        at = body.rfind(b'"usage"')
        if at < 0:
            return
        text = body[at + len(b'"usage"') :].decode("utf-8", "replace").lstrip(" :\t\r\n")
        try:
            usage, _end = DECODER.raw_decode(text)
        except (ValueError, RecursionError):
            return
        if isinstance(usage, dict):
            self.take(usage)


def finish_of(document: Any) -> str:
    """``finish_reason`` of the first choice, or Anthropic's ``stop_reason``, or the status of a response."""
    if not isinstance(document, dict):
        return ""
    choices = document.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        reason = choices[0].get("finish_reason")
    else:
        reason = document.get("stop_reason") or document.get("status")
    return reason if isinstance(reason, str) else ""


def _count(holder: dict[str, Any], name: str, other: str = "") -> int | None:
    """What ``name`` counts, or else ``other``; None where neither holds a count."""
    for value in (holder.get(name), holder.get(other)):
        # True and False are integers too.
        if type(value) is int and value >= 0:
            return value
    return None
