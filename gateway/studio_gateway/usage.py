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
import re
from dataclasses import dataclass
from typing import Any

DECODER = json.JSONDecoder()
# Above this many bytes an answer is not parsed whole: embeddings are large.
WHOLE_PARSE_BYTES = 256 * 1024
# An object with objects of numbers in it. Inside a JSON string the quotes of the name would be escaped.
USAGE = re.compile(rb'(?<!\\)"usage"\s{0,9}:\s{0,9}(\{[^{}]{0,2000}+(?:\{[^{}]{0,2000}+\}[^{}]{0,2000}+){0,8}\})')
# No usage is longer; so much of a part is looked at again together with the next.
LONGEST_USAGE_BYTES = 4 * 1024


@dataclass(slots=True)
class Usage:
    """Counts of one request, in tokens; what a stream says later replaces what it said before."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    # Whether it was said how much was generated, at any time; and whether that was the last word of a stream.
    is_counted: bool = False
    is_final: bool = False

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
        self.is_counted = self.is_counted or completion is not None

    def take_document(self, document: Any) -> None:
        """Read the ``usage`` of one answer or one event of a stream, wherever it stands."""
        if not isinstance(document, dict):
            return
        for holder in (document, document.get("response"), document.get("message")):
            if isinstance(holder, dict) and isinstance(holder.get("usage"), dict):
                self.take(holder["usage"])
                # What Anthropic's stream begins with, and counts beside a piece of one choice, are said before the end.
                self.is_final = (
                    holder is not document.get("message") and not document.get("choices") and self.is_counted
                )

    def take_answer(self, body: bytes) -> str:
        """Read a whole JSON answer; returns its finish reason, empty where it has none or is not JSON."""
        if len(body) > WHOLE_PARSE_BYTES:
            UsageSearch(self).feed(body)
            return ""
        try:
            document = DECODER.decode(body.decode("utf-8"))
        except (ValueError, RecursionError):
            return ""
        self.take_document(document)
        return finish_of(document)

    def take_dearest(self, other: "Usage") -> None:
        """Of two usages that one answer seems to have, take what costs most."""
        is_first = not self.is_counted and not self.prompt
        self.cached = other.cached if is_first else min(self.cached, other.cached)
        self.prompt = max(self.prompt, other.prompt)
        self.completion = max(self.completion, other.completion)
        self.is_counted = self.is_counted or other.is_counted


class UsageSearch:
    """Looks for ``"usage": {…}`` in an answer too large to be parsed, part by part, wherever it stands.

    An answer may repeat what its client sent, a tool's schema for one, and nobody looks here how deep a find stands. So all
    finds count, each number as the dearest of them: with a usage of its own a client can only make its request dearer.
    """

    __slots__ = ("_carry", "_usage")

    def __init__(self, usage: Usage) -> None:
        self._usage = usage
        self._carry = b""

    def feed(self, data: bytes) -> None:
        """Look at the next part."""
        text = self._carry + data
        self._carry = text[-LONGEST_USAGE_BYTES:]
        if b'"usage"' not in text:
            return
        for found in USAGE.finditer(text):
            try:
                usage = DECODER.decode(found.group(1).decode("utf-8"))
            except ValueError:
                continue
            one = Usage()
            one.take(usage)
            if one.is_counted or one.prompt:
                self._usage.take_dearest(one)


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
