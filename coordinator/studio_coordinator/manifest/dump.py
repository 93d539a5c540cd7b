"""A message in the form that ``parse`` reads: units as people write them, and what is unset left out."""

import re
from collections.abc import Iterable
from typing import Any

import yaml
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from studio.v1.recipe_pb2 import BytesOrAuto, IntOrAuto

from studio_coordinator.manifest import units
from studio_coordinator.manifest.decode import BYTES_SUFFIX, EXACT_INTEGER, enum_words
from studio_coordinator.manifest.kinds import Item, kind_of, written


def dump(item: Item) -> dict[str, Any]:
    """The document of an item, its ``kind`` first."""
    return {"kind": kind_of(item)} | _fields(written(item))


def to_yaml(items: Iterable[Item]) -> str:
    """A manifest of ``items``; ``parse`` gives the same items back."""
    return documents_to_yaml(dump(item) for item in items)


def documents_to_yaml(documents: Iterable[dict[str, Any]]) -> str:
    """A manifest of documents that ``dump`` made."""
    return yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Dumper(yaml.SafeDumper):
    """Quotes texts that ``parse`` would otherwise take for numbers, although YAML 1.1 does not; keeps lines as lines."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """The node of a text."""
        # YAML takes these for line breaks as well, and folds them.
        style = '"' if re.search("[\x85\u2028\u2029]", text) else "|" if "\n" in text else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _Dumper.represent_text)
_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(rf"(?:{units.NUMBER.pattern})$"), list("+-.0123456789")
)


def _fields(message: Message) -> dict[str, Any]:
    dumped: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            dumped[field.name] = {key: _dumped(value[key]) for key in sorted(value)}
        elif field.is_repeated:
            dumped[field.name] = [_dumped(item) for item in value]
        elif field.enum_type is not None:
            words = {number: word for word, number in enum_words(field.enum_type).items()}
            dumped[field.name] = words[value]
        else:
            dumped[field.name] = units.write_bytes(value) if field.name.endswith(BYTES_SUFFIX) else _dumped(value)
    return dumped


def _dumped(value: Any) -> Any:
    match value:
        case IntOrAuto():
            return "auto" if value.auto else value.value
        case BytesOrAuto():
            return "auto" if value.auto else units.write_bytes(value.bytes)
        case Duration():
            return units.write_duration(value)
        case Value() | Struct() | ListValue():
            return _whole_numbers(MessageToDict(value))
        case Message():
            return _fields(value)
        case _:
            return value


def _whole_numbers(value: Any) -> Any:
    """Numbers of a ``Value`` are doubles; whole ones are written as people write them."""
    match value:
        case float() if value.is_integer() and abs(value) <= EXACT_INTEGER:
            return int(value)
        case dict():
            # Maps of a message have no order; the same recipe is to give the same text.
            return {key: _whole_numbers(value[key]) for key in sorted(value)}
        case list():
            return [_whole_numbers(item) for item in value]
        case _:
            return value
