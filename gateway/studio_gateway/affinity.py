"""What a request has in common with others, for going where the cache is warm ★.

The key of a conversation is how it begins: everything up to and with its first user message. It is the same in every turn and
at every gateway; for different users with one long system prompt it is different, so that they spread.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

# Two messages that agree in this much are taken to be the same.
COMPARED_CHARACTERS = 4096
CHARACTERS_PER_TOKEN = 4
# What a request is taken to generate; nobody knows before it has.
GUESSED_OUTPUT_TOKENS = 200


def prefix_of(document: Mapping[str, Any]) -> bytes:
    """16 bytes that stand for how the prompt in a request's JSON begins; empty where there is no prompt."""
    messages = document.get("messages") or document.get("input")
    if isinstance(messages, list):
        parts = [document.get("system"), document.get("instructions"), *_until_first_user(messages)]
    else:
        parts = [document.get("instructions"), messages or document.get("prompt")]
    text = "\x00".join(repr(part)[:COMPARED_CHARACTERS] for part in parts if part)
    if not text:
        return b""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def session_key(name: str) -> bytes:
    """16 bytes that stand for a session's name; empty for none."""
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest() if name else b""


def work_of(body_bytes: int) -> float:
    """What a request of that size is expected to cost, in tokens."""
    return body_bytes / CHARACTERS_PER_TOKEN + GUESSED_OUTPUT_TOKENS


def _until_first_user(messages: list[Any]) -> list[Any]:
    for number, message in enumerate(messages):
        if isinstance(message, dict) and message.get("role") == "user":
            return messages[: number + 1]
    return messages[:1]
