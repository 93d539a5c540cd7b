"""Messages as plain data for JSON and YAML: names and order as in the contract, integers as numbers.

Enum values lose their prefix (``READY``), and what is a number or ``auto`` is written so, without the message around it.

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
OR_AUTO = {"studio.v1.IntOrAuto", "studio.v1.BytesOrAuto"}


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
    return {field.name: mend_field(data[field.name], field) for field in descriptor.fields if field.name in data}


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
    if field.message_type is not None and field.message_type.full_name in OR_AUTO:
        return "auto" if value.get("auto") else int(value.get("value", value.get("bytes", 0)))
    if field.message_type is not None and isinstance(value, dict):
        return mend(value, field.message_type)
    return value


def prefix_of(enum: EnumDescriptor) -> str:
    """``STATE_`` of ``Replica.State``: the enum's name as its values begin."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", enum.name).upper() + "_"
