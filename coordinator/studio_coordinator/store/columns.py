"""Column types for contract values, and rows to messages and back.

A table's columns carry the names of the message's fields; what a column holds is converted by its type, so that the queries
speak in messages and a person in ``psql`` reads plain text: ``READY``, a timestamp, a JSON document with the contract's words.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import Dialect, String, Table, TypeDecorator
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.engine import RowMapping

M = TypeVar("M", bound=Message)

NUL, REPLACEMENT = "\0", "\ufffd"


class EnumName(TypeDecorator[int]):
    """An enum of the contract as text without its prefix: ``STATE_READY`` is ``READY``."""

    impl = String
    cache_ok = True

    def __init__(self, enum: EnumDescriptor, prefix: str) -> None:
        super().__init__()
        self.enum = enum
        self.prefix = prefix

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002 - given by SQLAlchemy
        """Number to name."""
        return None if value is None else self.name_of(value)

    def name_of(self, value: int) -> str:
        """The name of a number; one that a newer agent says is UNSPECIFIED: it must not hold up what else is written."""
        known = self.enum.values_by_number.get(value, self.enum.values_by_number[0])
        return str(known.name).removeprefix(self.prefix)

    def process_result_value(self, value: Any, dialect: Dialect) -> int | None:  # noqa: ARG002 - given by SQLAlchemy
        """Name to number; a name that a newer version wrote reads as UNSPECIFIED."""
        if value is None:
            return None
        known = self.enum.values_by_name.get(self.prefix + value)
        return 0 if known is None else int(known.number)


class Instant(TypeDecorator[Timestamp]):
    """A ``Timestamp`` as ``timestamptz``, to the microsecond; an aware ``datetime`` may be bound as well."""

    impl = TIMESTAMP(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - given by SQLAlchemy
        """To an aware ``datetime``."""
        return value.ToDatetime(tzinfo=UTC) if isinstance(value, Timestamp) else value

    def process_result_value(self, value: Any, dialect: Dialect) -> Timestamp | None:  # noqa: ARG002 - given by SQLAlchemy
        """To a ``Timestamp``."""
        if value is None:
            return None
        instant = Timestamp()
        instant.FromDatetime(value)
        return instant


class TextOrNull(TypeDecorator[str]):
    """The contract's empty string as NULL: a reference that is not set."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002 - given by SQLAlchemy
        """Empty to NULL."""
        return value or None


class Document(TypeDecorator[Message]):
    """A whole message as JSONB with the contract's field names.

    Fields that a newer version wrote are ignored when read. PostgreSQL's JSON cannot hold NUL characters, which log lines of
    engines can; they are replaced.
    """

    impl = JSONB
    cache_ok = True

    def __init__(self, message: type[Message]) -> None:
        # No value is SQL's NULL, not JSON's.
        super().__init__(none_as_null=True)
        self.message = message

    def process_bind_param(self, value: Any, dialect: Dialect) -> dict[str, Any] | None:  # noqa: ARG002 - given by SQLAlchemy
        """Message to document."""
        return None if value is None else document_of(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Message | None:  # noqa: ARG002 - given by SQLAlchemy
        """Document to message."""
        return None if value is None else ParseDict(value, self.message(), ignore_unknown_fields=True)


def document_of(message: Message) -> dict[str, Any]:
    """``message`` as plain values with the contract's field names."""
    document: dict[str, Any] = without_nul(MessageToDict(message, preserving_proto_field_name=True))
    return document


def without_nul(value: Any) -> Any:
    """``value`` with NUL characters replaced in every text of it."""
    match value:
        case str():
            return value.replace(NUL, REPLACEMENT)
        case dict():
            return {without_nul(key): without_nul(item) for key, item in value.items()}
        case list():
            return [without_nul(item) for item in value]
        case _:
            return value


def to_row(table: Table, message: Message, **more: Any) -> dict[str, Any]:
    """The values of ``message`` for the columns of ``table`` that carry its fields' names, and ``more``."""
    fields = message.DESCRIPTOR.fields_by_name
    return {column.name: _plain(message, column.name) for column in table.columns if column.name in fields} | more


def from_row(kind: type[M], row: RowMapping) -> M:
    """A message of ``kind`` from the columns of ``row`` that carry its fields' names."""
    fields = kind.DESCRIPTOR.fields_by_name
    return kind(**{str(name): value for name, value in row.items() if name in fields and value is not None})


def _plain(message: Message, name: str) -> Any:
    field = message.DESCRIPTOR.fields_by_name[name]
    if field.has_presence and not message.HasField(name):
        return None
    value = getattr(message, name)
    if field.is_repeated:
        return without_nul(dict(value) if isinstance(value, Mapping) else list(value))
    return without_nul(value)
