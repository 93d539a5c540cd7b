"""Messages as plain data for JSON and YAML: names as in the contract, enum values without their prefix, integers as numbers.

What is optional and absent stays absent, for it is unknown; everything else is always there, so that scripts need no defaults.
"""

import re
from typing import Any

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

SIXTY_FOUR_BITS = {
    FieldDescriptor.TYPE_INT64,
    FieldDescriptor.TYPE_UINT64,
    FieldDescriptor.TYPE_SINT64,
    FieldDescriptor.TYPE_FIXED64,
    FieldDescriptor.TYPE_SFIXED64,
}


def plain(message: Message, *, defaults: bool = True) -> dict[str, Any]:
    """``message`` as a mapping; without ``defaults`` only what is set."""
    data: dict[str, Any] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=defaults
    )
    return mend(data, message.DESCRIPTOR)


def mend(data: dict[str, Any], descriptor: Any) -> dict[str, Any]:
    """Change what proto's own JSON form makes of enums (prefixed names) and of 64-bit integers (text)."""
    if descriptor.full_name.startswith("google.protobuf."):
        return data
    return {name: mend_field(value, descriptor.fields_by_name[name]) for name, value in data.items()}


def mend_field(value: Any, field: FieldDescriptor) -> Any:
    """The value of one field: each element of a list, each value of a map."""
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        of_entry = field.message_type.fields_by_name["value"]
        return {key: mend_value(element, of_entry) for key, element in value.items()}
    if isinstance(value, list):
        return [mend_value(element, field) for element in value]
    return mend_value(value, field)


def mend_value(value: Any, field: FieldDescriptor) -> Any:
    """One value."""
    if field.enum_type is not None and isinstance(value, str):
        return value.removeprefix(prefix_of(field.enum_type))
    if field.type in SIXTY_FOUR_BITS and isinstance(value, str):
        return int(value)
    if field.message_type is not None and isinstance(value, dict):
        return mend(value, field.message_type)
    return value


def prefix_of(enum: EnumDescriptor) -> str:
    """``STATE_`` of ``Replica.State``: the enum's name as its values begin."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", enum.name).upper() + "_"
