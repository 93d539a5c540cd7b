"""The API key of this machine: made once, kept in a file of its owner's, used again as long as it is valid."""

import asyncio
import uuid
from collections.abc import Iterable
from pathlib import Path

from studio.v1.admin_service_pb2 import CreateKeyRequest, ListKeysRequest
from studio.v1.route_pb2 import ApiKey
from studio_runtime.process import write_atomically

from studio_cli.coordinator import Coordinator

KEY_NAME = "local"


async def local_key(coordinator: Coordinator, file: Path) -> str:
    """The key in ``file`` where the coordinator still knows it, else a new one."""
    kept = await asyncio.to_thread(read, file)
    if kept:
        known = await coordinator.call(coordinator.admin.ListKeys, ListKeysRequest(), "list the API keys")
        if is_valid(kept, known.keys):
            return kept
    request = CreateKeyRequest(name=KEY_NAME, idempotency_key=str(uuid.uuid4()))
    created = await coordinator.call(coordinator.admin.CreateKey, request, "create the API key of this machine")
    await asyncio.to_thread(write_atomically, file, f"{created.secret}\n".encode())
    return created.secret


def is_valid(secret: str, keys: Iterable[ApiKey]) -> bool:
    """Whether ``secret`` is one of ``keys`` and not revoked; a key holds its id as its visible part."""
    return any(key.id and key.id in secret and not key.HasField("revoked_at") for key in keys)


def read(file: Path) -> str:
    """The key that was kept; empty where there is none."""
    return file.read_text(encoding="utf-8").strip() if file.exists() else ""
