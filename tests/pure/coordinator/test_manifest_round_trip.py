"""What is dumped parses back to the same message, whatever it holds."""

import math
from typing import Any

import yaml
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct, Value
from hypothesis import given
from hypothesis import strategies as st
from studio.v1.deployment_pb2 import DeploymentSpec
from studio.v1.recipe_pb2 import BytesOrAuto, IntOrAuto, Recipe
from studio_coordinator.manifest import changed_paths, dump, parse, to_yaml

# Texts that YAML might take for something else come up often.
AMBIGUOUS = [
    "null",
    "~",
    "yes",
    "1",
    "1e5",
    "-1.5",
    "010",
    "0x1f",
    "12:30",
    "2026-01-01",
    "",
    " ",
    "- a",
    "#",
    "a: b",
    "<<",
    "=",
]
texts = st.sampled_from(AMBIGUOUS) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12
)
numbers = st.floats(allow_nan=False, allow_infinity=False).filter(lambda number: math.copysign(1, number) > 0 or number)
sizes = st.integers(0, 2**63 - 1)
plain_values = st.none() | st.booleans() | numbers | texts
any_value = st.recursive(
    plain_values,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def as_value(plain: Any) -> Value:
    holder = Struct()
    holder["x"] = plain
    return holder.fields["x"]


SPECIAL: dict[str, st.SearchStrategy[Message]] = {
    IntOrAuto.DESCRIPTOR.full_name: st.just(IntOrAuto(auto=True))
    | st.integers(-(2**63), 2**63 - 1).map(lambda number: IntOrAuto(value=number)),
    BytesOrAuto.DESCRIPTOR.full_name: st.just(BytesOrAuto(auto=True)) | sizes.map(lambda size: BytesOrAuto(bytes=size)),
    Duration.DESCRIPTOR.full_name: st.builds(
        Duration, seconds=st.integers(0, 10 * 365 * 86_400), nanos=st.just(0) | st.integers(0, 10**9 - 1)
    ),
    Value.DESCRIPTOR.full_name: any_value.map(as_value),
    Struct.DESCRIPTOR.full_name: st.dictionaries(texts, any_value, max_size=3).map(
        lambda plain: as_value(plain).struct_value
    ),
}


def values_of(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        special = SPECIAL.get(field.message_type.full_name)
        return messages(field.message_type._concrete_class) if special is None else special
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return texts
        case FieldDescriptor.TYPE_BOOL:
            return st.booleans()
        case FieldDescriptor.TYPE_DOUBLE:
            return numbers
        case FieldDescriptor.TYPE_INT32:
            return st.integers(-(2**31), 2**31 - 1)
        case FieldDescriptor.TYPE_INT64:
            return sizes if field.name.endswith("_bytes") else st.integers(-(2**63), 2**63 - 1)
    raise AssertionError(field.full_name)


def field_values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return st.dictionaries(texts, values_of(field.message_type.fields_by_name["value"]), max_size=3)
    return st.lists(values_of(field), max_size=3) if field.is_repeated else values_of(field)


@st.composite
def messages(draw: st.DrawFn, kind: type[Message]) -> Message:
    """Any message of ``kind``, led by its descriptor; most fields are left out."""
    message = kind()
    for field in draw(st.lists(st.sampled_from(list(kind.DESCRIPTOR.fields)), max_size=5, unique_by=lambda f: f.name)):
        given_value = draw(field_values(field))
        target = getattr(message, field.name)
        if isinstance(given_value, dict):
            for key, value in given_value.items():
                if isinstance(value, Message):
                    target[key].CopyFrom(value)
                else:
                    target[key] = value
        elif isinstance(given_value, list):
            target.extend(given_value)
        elif isinstance(given_value, Message):
            target.SetInParent()
            target.CopyFrom(given_value)
        else:
            setattr(message, field.name, given_value)
    return message


@given(messages(Recipe))
def test_any_recipe(recipe: Recipe):
    assert parse(to_yaml([recipe])).recipes == [recipe]


@given(messages(DeploymentSpec))
def test_any_deployment(spec: DeploymentSpec):
    assert parse(to_yaml([spec])).deployments == [spec]


@given(messages(Recipe), messages(Recipe))
def test_changes_are_empty_exactly_when_nothing_changed(before: Recipe, after: Recipe):
    assert changed_paths(before, before) == []
    assert bool(changed_paths(before, after)) == (dump(before) != dump(after))


@given(st.lists(messages(Recipe) | messages(DeploymentSpec), max_size=3))
def test_documents_keep_their_order_and_begin_with_their_kind(items: list[Recipe | DeploymentSpec]):
    documents = list(yaml.safe_load_all(to_yaml(items))) if items else []
    assert [next(iter(document)) for document in documents] == ["kind"] * len(items)


@given(st.text())
def test_no_text_breaks_the_parser(text: str):
    parsed = parse(text)
    assert parsed.problems or parsed.recipes or parsed.deployments
