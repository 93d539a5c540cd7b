"""What the demo engine says: words, sentences and vectors that depend on the prompt alone."""

import re
import zlib
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from math import sqrt
from random import Random

SENTENCES = (
    "This is the demo engine of vLLM Studio: a stand-in, not a model.",
    "It answers at once because there is nothing behind it to think.",
    "Every word you read here was written before you asked.",
    "Deploy a recipe with a real engine and the same request reaches a real model.",
    "What is real already is the way here: gateway, route, replica and stream.",
    "Your key was checked, your tokens were counted, and your host did the work.",
)
EMBEDDING_SIZE = 64
# A token is a word with the white space before it, so that joined tokens give the text back.
TOKEN = re.compile(r"\s*\S+|\s+$")


def tokens_of(text: str) -> list[str]:
    """Split ``text`` into tokens; joined, they are ``text`` again."""
    return TOKEN.findall(text)


def token_ids(text: str) -> list[int]:
    """A number for each token; the same token has the same number everywhere."""
    return [zlib.crc32(token.encode()) % 50_000 for token in tokens_of(text)]


def answer(prompt: str, max_tokens: int | None) -> list[str]:
    """The tokens of the answer to ``prompt``: as many as asked, or one round of sentences when None."""
    first = zlib.crc32(prompt.encode()) % len(SENTENCES)
    rotated = SENTENCES[first:] + SENTENCES[:first]
    text = tokens_of(" ".join(rotated))
    if max_tokens is None:
        return text
    return list(islice(_endless(text), max_tokens))


def _endless(text: Sequence[str]) -> Iterator[str]:
    yield from text
    yield from cycle([" " + text[0], *text[1:]])


def cut_at_stop(tokens: Sequence[str], stops: Sequence[str]) -> tuple[list[str], bool]:
    """The tokens before the earliest of ``stops``, the last one cut short; and whether a stop was found."""
    text = "".join(tokens)
    found = [at for at in (text.find(stop) for stop in stops if stop) if at >= 0]
    if not found:
        return list(tokens), False
    kept: list[str] = []
    left = min(found)
    for token in tokens:
        if left <= 0:
            break
        kept.append(token[:left])
        left -= len(token)
    return kept, True


def embedding(text: str, size: int) -> list[float]:
    """A unit vector of ``size`` numbers that depends on ``text`` alone."""
    random = Random(text)  # noqa: S311 - reproducible, not secret
    vector = [random.gauss(0.0, 1.0) for _ in range(size)]
    norm = sqrt(sum(value * value for value in vector))
    return [value / norm for value in vector]
