"""Nodes to a message, led by its descriptor; every problem is collected with its path and line.

What a field wants decides how a scalar is read: ``version: 0.33`` is the text 0.33, ``share: 20%`` a number. So a manifest can be
written without knowing which texts YAML takes for numbers. A null means that the field is left out.
"""

import math
import re
from collections.abc import Collection, Iterator
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import NullValue, Struct, Value
from studio.v1.recipe_pb2 import BytesOrAuto, IntOrAuto

from studio_coordinator.manifest import units
from studio_coordinator.manifest.names import did_you_mean
from studio_coordinator.manifest.tree import Entry, Listing, Mapping, Node, Scalar

NULLS = {"", "~", "null", "Null", "NULL"}
BOOLS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
INT_BITS = {FieldDescriptor.TYPE_INT32: 31, FieldDescriptor.TYPE_INT64: 63}
# Beyond it a double cannot tell neighbouring integers apart.
EXACT_INTEGER = 2**53
BYTES_SUFFIX = "_bytes"
# Neither JSON documents in PostgreSQL nor protobuf texts can hold these.
FORBIDDEN = re.compile("[\0\ud800-\udfff]")


class Decoder:
    """Reads one document. ``problems`` holds (path, message, line); ``lines`` says where each path stands."""

    def __init__(self) -> None:
        self.problems: list[tuple[str, str, int]] = []
        self.lines: dict[str, int] = {}

    def fill(self, message: Message, node: Node, path: str = "", only: Collection[str] = ()) -> None:
        """Set the fields of ``message`` that ``node`` gives; with ``only``, no others than these."""
        fields = fields_by_word(message)
        if only:
            fields = {word: field for word, field in fields.items() if field.name in only}
        for entry, inner in self._entries(node, path):
            field = fields.get(entry.key)
            if field is None:
                self._problem(inner, entry.line, _unknown(entry.key, fields))
            elif not is_null(entry.value):
                self._field(message, field, entry.value, inner)

    def _field(self, message: Message, field: FieldDescriptor, node: Node, path: str) -> None:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            self._map(getattr(message, field.name), field.message_type, node, path)
        elif field.is_repeated:
            self._list(getattr(message, field.name), field, node, path)
        elif field.message_type is not None:
            part = getattr(message, field.name)
            part.SetInParent()
            self._message(part, node, path)
        else:
            value = self._scalar(field, node, path)
            if value is not None:
                setattr(message, field.name, value)

    def _message(self, message: Message, node: Node, path: str) -> None:
        match message:
            case IntOrAuto():
                self._int_or_auto(message, node, path)
            case BytesOrAuto():
                self._bytes_or_auto(message, node, path)
            case Duration():
                self._duration(message, node, path)
            case Struct():
                for entry, inner in self._entries(node, path):
                    message.fields[entry.key].CopyFrom(self._value(entry.value, inner))
            case _:
                self.fill(message, node, path)

    def _map(self, target: Any, entry_type: Descriptor, node: Node, path: str) -> None:
        field = entry_type.fields_by_name["value"]
        for entry, inner in self._entries(node, path):
            if field.message_type is not None:
                target[entry.key].CopyFrom(self._value(entry.value, inner))
            elif is_null(entry.value):
                target[entry.key] = ""
            elif (value := self._scalar(field, entry.value, inner)) is not None:
                target[entry.key] = value

    def _list(self, target: Any, field: FieldDescriptor, node: Node, path: str) -> None:
        if not isinstance(node, Listing):
            self._problem(path, node.line, f"expected a list, such as [a, b], got {_kind(node)}")
            return
        for index, item in enumerate(node.items):
            inner = f"{path}[{index}]"
            self.lines[inner] = item.line
            if field.message_type is not None:
                self._message(target.add(), item, inner)
            elif (value := self._scalar(field, item, inner)) is not None:
                target.append(value)

    def _scalar(self, field: FieldDescriptor, node: Node, path: str) -> str | bool | int | float | None:
        expected = _expected(field)
        if not isinstance(node, Scalar):
            self._problem(path, node.line, f"expected {expected}, got {_kind(node)}")
            return None
        if field.type == FieldDescriptor.TYPE_STRING:
            return self._text(node, path)
        try:
            if field.type == FieldDescriptor.TYPE_BOOL or field.enum_type is not None:
                words = BOOLS if field.enum_type is None else enum_words(field.enum_type)
                return words[node.text.lower()]
            if field.type in INT_BITS:
                size = field.name.endswith(BYTES_SUFFIX)
                return units.read_bytes(node.text) if size else read_int(node.text, INT_BITS[field.type])
            return units.read_share(node.text) if field.name == "share" else read_float(node.text)
        except KeyError:
            self._problem(path, node.line, f"expected {expected}, got {node.text!r}")
        except ValueError as error:
            self._problem(path, node.line, f"expected {error}, got {node.text!r}")
        return None

    def _text(self, node: Scalar, path: str) -> str | None:
        if FORBIDDEN.search(node.text):
            self._problem(path, node.line, "the text holds a NUL or half a character")
            return None
        return node.text

    def _int_or_auto(self, message: IntOrAuto, node: Node, path: str) -> None:
        try:
            text = _scalar_text(node)
            if text == "auto":
                message.auto = True
            else:
                message.value = read_int(text, 63)
        except ValueError as error:
            self._problem(path, node.line, f"expected auto or {error}, got {_kind(node)}")

    def _bytes_or_auto(self, message: BytesOrAuto, node: Node, path: str) -> None:
        try:
            text = _scalar_text(node)
            if text == "auto":
                message.auto = True
            else:
                message.bytes = units.read_bytes(text)
        except ValueError as error:
            self._problem(path, node.line, f"expected auto or {error}, got {_kind(node)}")

    def _duration(self, message: Duration, node: Node, path: str) -> None:
        try:
            message.CopyFrom(units.read_duration(_scalar_text(node)))
        except ValueError as error:
            self._problem(path, node.line, f"expected {error}, got {_kind(node)}")

    def _value(self, node: Node, path: str) -> Value:
        """Any value: what it is depends on how it is written."""
        value = Value()
        match node:
            case Mapping():
                value.struct_value.SetInParent()
                for entry, inner in self._entries(node, path):
                    value.struct_value.fields[entry.key].CopyFrom(self._value(entry.value, inner))
            case Listing():
                value.list_value.SetInParent()
                for index, item in enumerate(node.items):
                    value.list_value.values.append(self._value(item, f"{path}[{index}]"))
            case Scalar() if is_null(node):
                value.null_value = NullValue.NULL_VALUE
            case Scalar() if not node.quoted and node.text.lower() in BOOLS:
                value.bool_value = BOOLS[node.text.lower()]
            case Scalar() if not node.quoted and units.NUMBER.fullmatch(node.text):
                value.number_value = float(node.text)
                if not math.isfinite(value.number_value) or _loses_digits(node.text):
                    value.number_value = 0
                    self._problem(path, node.line, f"the number {node.text} cannot be kept exactly; write it in quotes")
            case Scalar():
                value.string_value = self._text(node, path) or ""
        return value

    def _entries(self, node: Node, path: str) -> Iterator[tuple[Entry, str]]:
        """The entries of a mapping, each key once, with their paths; a problem where ``node`` is no mapping."""
        if not isinstance(node, Mapping):
            if not is_null(node):
                self._problem(path, node.line, f"expected fields, got {_kind(node)}")
            return
        seen: dict[str, int] = {}
        for entry in node.entries:
            inner = f"{path}.{entry.key}" if path else entry.key
            if FORBIDDEN.search(entry.key):
                self._problem(path, entry.line, "a key holds a NUL or half a character")
            elif entry.key in seen:
                self._problem(inner, entry.line, f"given twice; first in line {seen[entry.key]}")
            else:
                seen[entry.key] = entry.line
                self.lines[inner] = entry.line
                yield entry, inner

    def _problem(self, path: str, line: int, message: str) -> None:
        self.problems.append((path, message, line))


def fields_by_word(message: Message) -> dict[str, FieldDescriptor]:
    """Fields by the words they may be written with: their names, and those of sizes also without ``_bytes``."""
    fields: dict[str, Any] = dict(message.DESCRIPTOR.fields_by_name.items())
    return {name.removesuffix(BYTES_SUFFIX): field for name, field in fields.items()} | fields


def enum_words(enum: EnumDescriptor) -> dict[str, int]:
    """The numbers of an enum by the words that people write: ``PERIOD_MONTH`` is ``month``; unspecified is not written."""
    prefix = str(enum.values_by_number[0].name).removesuffix("UNSPECIFIED")
    return {value.name.removeprefix(prefix).lower(): value.number for value in enum.values if value.number}


def is_null(node: Node) -> bool:
    """Whether the node says that there is no value."""
    return isinstance(node, Scalar) and not node.quoted and node.text in NULLS


def read_int(text: str, bits: int) -> int:
    """A signed whole number of ``bits`` bits beside its sign; underscores may group digits. Raises ValueError."""
    # Python reads numbers of up to 4,300 digits; 24 are enough for 64 bits with underscores.
    if not units.WHOLE.fullmatch(text) or len(text) > 24:  # noqa: PLR2004 - said above
        raise ValueError("a whole number")
    number = int(text)
    if not -(2**bits) <= number < 2**bits:
        raise ValueError(f"a whole number from {-(2**bits)} to {2**bits - 1}")
    return number


def read_float(text: str) -> float:
    """A finite number. Raises ValueError."""
    if not units.NUMBER.fullmatch(text) or not math.isfinite(float(text)):
        raise ValueError("a number")
    return float(text)


def _loses_digits(text: str) -> bool:
    return units.WHOLE.fullmatch(text) is not None and abs(float(text)) > EXACT_INTEGER


def _scalar_text(node: Node) -> str:
    return node.text if isinstance(node, Scalar) else ""


def _unknown(key: str, fields: dict[str, FieldDescriptor]) -> str:
    if key == "<<":
        return "merge keys are not read; write the fields out"
    return f"unknown field{did_you_mean(key, fields)}"


def _expected(field: FieldDescriptor) -> str:
    if field.type == FieldDescriptor.TYPE_STRING:
        return "a text"
    if field.type == FieldDescriptor.TYPE_BOOL:
        return "true or false"
    if field.enum_type is not None:
        return f"one of {', '.join(enum_words(field.enum_type))}"
    if field.name.endswith(BYTES_SUFFIX):
        return units.BYTES_RULE
    if field.type in INT_BITS:
        return "a whole number"
    return units.SHARE_RULE if field.name == "share" else "a number"


def _kind(node: Node) -> str:
    match node:
        case Scalar():
            return repr(node.text)
        case Listing():
            return "a list"
        case Mapping():
            return "fields"
