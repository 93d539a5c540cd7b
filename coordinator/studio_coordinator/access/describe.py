"""What an object looks like in the audit log: its contract message as JSON, without anything secret."""

import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from studio.v1.recipe_pb2 import Recipe
from studio_runtime.errors import NotFoundError
from studio_runtime.logging import HIDDEN

from studio_coordinator.store import access, deployments, hosts, operators, providers, recipes, secrets, tenants
from studio_coordinator.store.database import Connection

# Of requests and answers alike, wherever they stand.
SECRET_FIELDS = frozenset({"value", "secret", "token", "hash", "csr", "proof", "certificate", "idempotency_key"})
# Texts that may hold anything: their digest is told.
TEXT_FIELDS = frozenset({"manifest"})
# What a host says of itself, every second anew, is nobody's change.
OBSERVED_FIELDS = frozenset({"gpus", "figures", "facts", "last_seen_at", "engines", "models"})
MOST_BYTES = 64 * 1024


async def describe(conn: Connection, named: str) -> Any:
    """The object as plain values; None where there is none, or where its kind is told by the request alone."""
    kind, _, name = named.partition("/")
    try:
        found = await _find(conn, kind, name)
    except NotFoundError:
        return None
    return None if found is None else without_secrets(found)


def is_described(named: str) -> bool:
    """Whether objects of its kind can be looked up."""
    return named.partition("/")[0] in FINDERS


async def _find(conn: Connection, kind: str, name: str) -> Message | None:
    find = FINDERS.get(kind)
    return None if find is None else await find(conn, name)


async def _key(conn: Connection, name: str) -> Message | None:
    return next((key for key in await access.list_keys(conn) if key.id == name), None)


async def _provider(conn: Connection, name: str) -> Message | None:
    return next((one for one in await providers.list_providers(conn) if one.model == name), None)


async def _secret(conn: Connection, name: str) -> Message | None:
    return next((one for one in await secrets.list_secrets(conn) if one.name == name), None)


FINDERS: dict[str, Callable[[Connection, str], Awaitable[Message | None]]] = {
    "Recipe": recipes.get_recipe,
    "Deployment": deployments.get_deployment,
    "Host": hosts.find_host,
    "Key": _key,
    "Tenant": tenants.get_tenant,
    "Provider": _provider,
    "Operator": operators.find_operator,
    "Secret": _secret,
}


def without_secrets(message: Message) -> dict[str, Any]:
    """``message`` as plain values; secrets, and what is only observed, left out."""
    shown = type(message)()
    shown.CopyFrom(message)
    _clear(shown)
    document: dict[str, Any] = MessageToDict(shown, preserving_proto_field_name=True)
    return document


def as_text(value: Any) -> str:
    """JSON with sorted keys, empty for nothing; of what is too long for a log, its digest."""
    if not value:
        return ""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    if len(text.encode()) <= MOST_BYTES:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()
    return json.dumps({"bytes": len(text.encode()), "sha256": digest})


def _clear(message: Message) -> None:
    if isinstance(message, Recipe):
        # Variables are where people put keys for want of a better place; their names are told.
        for variable in message.env:
            message.env[variable] = HIDDEN
    for field, value in message.ListFields():
        if _is_secret(field) or field.name in OBSERVED_FIELDS:
            message.ClearField(field.name)
        elif field.name in TEXT_FIELDS and field.type == FieldDescriptor.TYPE_STRING:
            setattr(message, field.name, f"sha256:{hashlib.sha256(value.encode()).hexdigest()}")
        elif field.type == FieldDescriptor.TYPE_MESSAGE and not _is_map(field):
            for inner in value if field.is_repeated else (value,):
                _clear(inner)


def _is_secret(field: FieldDescriptor) -> bool:
    """By its name; numbers (``IntOrAuto.value``) and messages of that name are none."""
    texts = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)
    return field.name in SECRET_FIELDS and field.type in texts


def _is_map(field: FieldDescriptor) -> bool:
    kind = field.message_type
    return kind is not None and bool(kind.GetOptions().map_entry)
