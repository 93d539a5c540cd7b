"""Tokens are told by their form, from one another and from what was copied wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from studio_coordinator.tokens import OPERATOR, Token


def test_a_token_is_read_again_and_hides_in_its_representation() -> None:
    token = Token.new(OPERATOR)
    assert Token.read(token.text, OPERATOR) == token
    assert token.text not in repr(token)
    assert Token.new(OPERATOR).text != token.text


@given(st.binary(min_size=32, max_size=32), st.integers(0, 67), st.sampled_from("abcXYZ019_-"))
def test_a_changed_character_is_noticed(secret: bytes, at: int, other: str) -> None:
    text = Token.made_of(OPERATOR, "id0123456789", secret).text
    at %= len(text)
    changed = text[:at] + other + text[at + 1 :]
    assert changed == text or Token.read(changed, OPERATOR) is None


@pytest.mark.parametrize(
    "change", [lambda text: text[:-1], lambda text: text + "a", lambda text: f" {text}", str.upper]
)
def test_what_is_cut_or_longer_is_none(change: object) -> None:
    assert callable(change)
    assert Token.read(change(Token.new(OPERATOR).text), OPERATOR) is None


def test_another_kind_of_token_is_none() -> None:
    assert Token.read(Token.new("vsl").text, OPERATOR) is None


def test_a_hash_is_of_one_token_and_one_pepper() -> None:
    token, other = Token.new(OPERATOR), Token.new(OPERATOR)
    digest = token.hash(b"pepper")
    assert token.is_hashed_as(digest, b"pepper")
    assert not token.is_hashed_as(digest, b"another")
    assert not other.is_hashed_as(digest, b"pepper")
