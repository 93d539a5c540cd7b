"""AdminService: keys of the gateway."""

import base64
import hashlib
import hmac
import re
import secrets
import string
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
from studio.v1.admin_service_pb2 import (
    CreateKeyRequest,
    CreateKeyResponse,
    ListKeysRequest,
    ListKeysResponse,
    RevokeKeyRequest,
    RevokeKeyResponse,
    RotateKeyRequest,
    RotateKeyResponse,
    UpdateKeyRequest,
    UpdateKeyResponse,
)
from studio.v1.route_pb2 import ApiKey, Limits
from studio_runtime.errors import InvalidError

from studio_coordinator.access.journal import note_made
from studio_coordinator.rpc.guard import guarded
from studio_coordinator.rpc.state import AdminState
from studio_coordinator.store import access, idempotency, tenants
from studio_coordinator.store.database import Connection

Context = grpc.aio.ServicerContext[Any, Any]

ID_ALPHABET = string.ascii_lowercase + string.digits
ID_LENGTH = 12
SECRET_BYTES = 32
SHORTEST_IDEMPOTENCY_KEY = 16
USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}")
# How long the old secret works beside the new one.
OVERLAP = timedelta(hours=24)


def new_key_id() -> str:
    """A key's visible part."""
    return "".join(secrets.choice(ID_ALPHABET) for _ in range(ID_LENGTH))


def key_text(key_id: str, secret: bytes) -> str:
    """A key as its owner has it: ``sk-ID-SECRET``, the secret being 256 bits."""
    return f"sk-{key_id}-{base64.urlsafe_b64encode(secret).rstrip(b'=').decode()}"


class Keys(AdminState):
    """Who may call the gateway, for which models, and how much."""

    @guarded
    async def CreateKey(self, request: CreateKeyRequest, _context: Context) -> CreateKeyResponse:  # noqa: N802
        """Make a key. Its text is in this answer and nowhere else: the database has only a keyed hash of it."""
        self.leadership.require()
        async with self.database.transaction() as conn:
            first = await self._remembered(conn, request)
            if first is not None:
                return first
            response = await self._create_key(conn, request, request.idempotency_key)
            await self._remember(conn, request, response)
        self.desired_changed()
        return response

    async def _remembered(
        self, conn: Connection, request: CreateKeyRequest | RotateKeyRequest
    ) -> CreateKeyResponse | None:
        """The first answer again where the request is repeated.

        The secret is not kept for that: it follows from the idempotency key, which the caller alone has, and from the pepper.
        """
        if not request.idempotency_key:
            return None
        if len(request.idempotency_key) < SHORTEST_IDEMPOTENCY_KEY:
            raise InvalidError(
                f"an idempotency key of less than {SHORTEST_IDEMPOTENCY_KEY} characters can be guessed",
                "Send a random one, such as a UUID; the secret of the new key follows from it.",
            )
        first = await idempotency.remembered(conn, _name_of(request), _digest_of(request))
        if first is None:
            return None
        response = CreateKeyResponse.FromString(first)
        response.secret = key_text(response.key.id, self._secret(request.idempotency_key, response.key.id))
        return response

    async def _remember(
        self, conn: Connection, request: CreateKeyRequest | RotateKeyRequest, response: CreateKeyResponse
    ) -> None:
        if request.idempotency_key:
            kept = CreateKeyResponse(key=response.key).SerializeToString()
            await idempotency.remember(conn, _name_of(request), _digest_of(request), kept, datetime.now(UTC))

    def _secret(self, idempotency_key: str, key_id: str) -> bytes:
        if not idempotency_key:
            return secrets.token_bytes(SECRET_BYTES)
        return hmac.new(self.pepper, f"secret of {key_id}\0{idempotency_key}".encode(), hashlib.sha256).digest()

    async def _create_key(self, conn: Connection, request: CreateKeyRequest, idempotency_key: str) -> CreateKeyResponse:
        key_id = new_key_id()
        text = key_text(key_id, self._secret(idempotency_key, key_id))
        digest = hmac.new(self.pepper, text.encode(), hashlib.sha256).digest()
        tenant = await tenants.get_tenant(conn, request.tenant or tenants.DEFAULT)
        key = ApiKey(id=key_id, hash=digest, name=request.name, models=request.models, tenant=tenant.name, version=1)
        key.user = checked_user(request.user)
        key.created_at.FromDatetime(datetime.now(UTC))
        if request.HasField("expires_at"):
            key.expires_at.CopyFrom(request.expires_at)
        if request.HasField("limits"):
            key.limits.CopyFrom(checked(request.limits))
        note_made(f"Key/{key.id}")
        await access.create_key(conn, key)
        return CreateKeyResponse(key=without_hash(key), secret=text)

    @guarded
    async def ListKeys(self, _request: ListKeysRequest, _context: Context) -> ListKeysResponse:  # noqa: N802
        """All keys, without their hashes."""
        async with self.database.transaction() as conn:
            keys = [without_hash(key) for key in await access.list_keys(conn)]
            used = await access.last_used(conn)
        for key in keys:
            if key.id in used:
                key.last_used_at.CopyFrom(used[key.id])
        return ListKeysResponse(keys=keys)

    @guarded
    async def RevokeKey(self, request: RevokeKeyRequest, _context: Context) -> RevokeKeyResponse:  # noqa: N802
        """Revoke a key; gateways refuse it as soon as they have the next table."""
        self.leadership.require()
        async with self.database.transaction() as conn:
            key = await access.revoke_key(conn, request.id, datetime.now(UTC))
        self.desired_changed()
        return RevokeKeyResponse(key=without_hash(key))

    @guarded
    async def UpdateKey(self, request: UpdateKeyRequest, _context: Context) -> UpdateKeyResponse:  # noqa: N802
        """Change a key's scope, limits, end or name; its secret stays."""
        self.leadership.require()
        async with self.database.transaction() as conn:
            key = await access.get_key(conn, request.id)
            expected = request.expected_version or key.version
            key.name = request.name or key.name
            if request.HasField("user"):
                key.user = checked_user(request.user)
            if request.HasField("models"):
                del key.models[:]
                key.models.extend(request.models.models)
            if request.HasField("limits"):
                key.limits.CopyFrom(checked(request.limits))
            if request.HasField("expires_at"):
                key.expires_at.CopyFrom(request.expires_at)
            key = await access.change_key(conn, key, expected)
        self.desired_changed()
        return UpdateKeyResponse(key=without_hash(key))

    @guarded
    async def RotateKey(self, request: RotateKeyRequest, _context: Context) -> RotateKeyResponse:  # noqa: N802
        """Make a key with the same rights, and end the old one after an overlap."""
        self.leadership.require()
        overlap = request.overlap.ToTimedelta() if request.HasField("overlap") else OVERLAP
        if overlap < timedelta(0):
            raise InvalidError("the overlap of two keys cannot be negative")
        async with self.database.transaction() as conn:
            first = await self._remembered(conn, request)
            if first is not None:
                return RotateKeyResponse(key=first.key, secret=first.secret)
            old = await access.get_key(conn, request.id)
            if old.HasField("revoked_at"):
                raise InvalidError(f"key {old.id} is revoked", "Make a new one with studio keys create.")
            like_it = CreateKeyRequest(name=old.name, models=old.models, tenant=old.tenant, user=old.user)
            if old.HasField("limits"):
                like_it.limits.CopyFrom(old.limits)
            if old.HasField("expires_at"):
                like_it.expires_at.CopyFrom(old.expires_at)
            made = await self._create_key(conn, like_it, request.idempotency_key)
            ends = datetime.now(UTC) + overlap
            if not old.HasField("expires_at") or old.expires_at.ToDatetime(UTC) > ends:
                old.expires_at.FromDatetime(ends)
                await access.change_key(conn, old, old.version)
            await self._remember(conn, request, made)
        self.desired_changed()
        return RotateKeyResponse(key=made.key, secret=made.secret)


def _name_of(request: CreateKeyRequest | RotateKeyRequest) -> str:
    return f"create-key:{hashlib.sha256(request.idempotency_key.encode()).hexdigest()}"


def _digest_of(request: CreateKeyRequest | RotateKeyRequest) -> str:
    """What tells a repeated request from another one."""
    bare = type(request).FromString(request.SerializeToString())
    bare.ClearField("idempotency_key")
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()


def without_hash(key: ApiKey) -> ApiKey:
    """What operators see of a key."""
    shown = ApiKey()
    shown.CopyFrom(key)
    shown.ClearField("hash")
    return shown


def checked_user(user: str) -> str:
    """The name as it is stored; InvalidError where it is none."""
    if user and not USER.fullmatch(user):
        raise InvalidError(
            f"{user!r} is no name of a user", "Use letters, digits and any of . _ @ + -, at most 100 of them."
        )
    return user


def checked(limits: Limits) -> Limits:
    """The limits as they are stored; InvalidError where they make no sense."""
    for field, value in limits.ListFields():
        if field.name != "budget_period" and value < 1:
            raise InvalidError(
                f"the limit {field.name} is {value}; it must be at least 1", "Revoke a key that is to do nothing."
            )
    kept = Limits()
    kept.CopyFrom(limits)
    if (limits.HasField("token_budget") or limits.HasField("money_budget_micros")) and not limits.budget_period:
        kept.budget_period = Limits.PERIOD_MONTH
    return kept
