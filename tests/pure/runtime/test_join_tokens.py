"""The text of a join token."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from studio.v1.identity_service_pb2 import Identity
from studio_runtime.identity.join_token import ALPHABET, JoinTokenError, JoinTokenText
from studio_runtime.identity.names import KINDS, NodeName

KIND = st.sampled_from(sorted(KINDS.values()))


@given(KIND)
def test_a_token_is_read_as_it_was_written(kind: Identity.Kind.ValueType) -> None:
    made = JoinTokenText.make(kind)
    assert JoinTokenText.parse(f"  {made}\n") == made
    assert made.kind == kind
    assert re.fullmatch(r"vsj_[a-z0-9]{71}", str(made))


@given(st.integers(4, 74), st.sampled_from(ALPHABET))
def test_one_wrong_character_is_noticed_without_asking_anybody(place: int, instead: str) -> None:
    text = str(JoinTokenText.make(Identity.KIND_AGENT))
    wrong = text[:place] + instead + text[place + 1 :]
    if wrong == text:
        assert JoinTokenText.parse(wrong)
    else:
        with pytest.raises(JoinTokenError) as refused:
            JoinTokenText.parse(wrong)
        assert wrong not in refused.value.message + refused.value.hint


@given(st.text(max_size=100))
def test_anything_else_is_no_token(text: str) -> None:
    with pytest.raises(JoinTokenError):
        JoinTokenText.parse(text)


def test_a_secret_is_not_told_by_its_object() -> None:
    token = JoinTokenText.make(Identity.KIND_GATEWAY)
    assert token.secret not in repr(token)


@given(KIND, st.text(min_size=1, max_size=40), st.integers(1, 2**63 - 1))
def test_a_name_is_read_from_the_certificate_as_it_was_written(
    kind: Identity.Kind.ValueType, node_id: str, generation: int
) -> None:
    name = NodeName(kind, node_id, generation)
    assert NodeName.parse(name.uri) == name
    assert name.uri.isascii()


@pytest.mark.parametrize(
    "uri",
    [
        "https://agent/h1?generation=1",
        "studio://operator/h1?generation=1",
        "studio://agent/?generation=1",
        "studio://agent/h1",
        "studio://agent/h1?generation=0",
        "studio://agent/h1?generation=x",
        "studio://[/h1?generation=1",
    ],
)
def test_other_uris_name_no_node(uri: str) -> None:
    assert NodeName.parse(uri) is None
