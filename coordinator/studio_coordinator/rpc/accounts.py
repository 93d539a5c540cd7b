"""AdminService: keys, providers, usage."""

import base64
import hashlib
import hmac
import secrets
import string
from datetime import UTC, datetime
from typing import Any

import grpc
from studio.v1.admin_service_pb2 import (
    AddProviderRequest,
    AddProviderResponse,
    CreateKeyRequest,
    CreateKeyResponse,
    ListKeysRequest,
    ListKeysResponse,
    ListProvidersRequest,
    ListProvidersResponse,
    ListUsageRequest,
    ListUsageResponse,
    RemoveProviderRequest,
    RemoveProviderResponse,
    RevokeKeyRequest,
    RevokeKeyResponse,
)
from studio.v1.route_pb2 import ApiKey
from studio_runtime.errors import InvalidError

from studio_coordinator.rpc.guard import actor_of, guarded
from studio_coordinator.rpc.state import AdminState
from studio_coordinator.store import access, idempotency, providers, usage
from studio_coordinator.store.database import Connection

Context = grpc.aio.ServicerContext[Any, Any]

ID_ALPHABET = string.ascii_lowercase + string.digits
ID_LENGTH = 12
SECRET_BYTES = 32
SHORTEST_IDEMPOTENCY_KEY = 16
GROUPS = frozenset({"model", "key", "day"})


def new_key_id() -> str:
    """A key's visible part."""
    return "".join(secrets.choice(ID_ALPHABET) for _ in range(ID_LENGTH))


def key_text(key_id: str, secret: bytes) -> str:
    """A key as its owner has it: ``sk-ID-SECRET``, the secret being 256 bits."""
    return f"sk-{key_id}-{base64.urlsafe_b64encode(secret).rstrip(b'=').decode()}"


class Accounts(AdminState):
    """Who may call, what else there is to call, and who called how much."""

    @guarded
    async def CreateKey(self, request: CreateKeyRequest, _context: Context) -> CreateKeyResponse:  # noqa: N802
        """Make a key. Its text is in this answer and nowhere else: the database has only a keyed hash of it."""
        self.leadership.require()
        if request.idempotency_key:
            return await self._create_key_once(request)
        key_id = new_key_id()
        async with self.database.transaction() as conn:
            response = await self._create_key(conn, request, key_id, secrets.token_bytes(SECRET_BYTES))
        self.desired_changed()
        return response

    async def _create_key_once(self, request: CreateKeyRequest) -> CreateKeyResponse:
        """The first answer again where the request is repeated.

        The secret is not kept for that: it follows from the idempotency key, which the caller alone has, and from the pepper.
        """
        if len(request.idempotency_key) < SHORTEST_IDEMPOTENCY_KEY:
            raise InvalidError(
                f"an idempotency key of less than {SHORTEST_IDEMPOTENCY_KEY} characters can be guessed",
                "Send a random one, such as a UUID; the secret of the new key follows from it.",
            )
        name = f"create-key:{hashlib.sha256(request.idempotency_key.encode()).hexdigest()}"
        bare = CreateKeyRequest()
        bare.CopyFrom(request)
        bare.ClearField("idempotency_key")
        digest = hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()
        async with self.database.transaction() as conn:
            first = await idempotency.remembered(conn, name, digest)
            if first is not None:
                response = CreateKeyResponse.FromString(first)
                response.secret = key_text(response.key.id, self._secret(request.idempotency_key, response.key.id))
                return response
            key_id = new_key_id()
            secret = self._secret(request.idempotency_key, key_id)
            response = await self._create_key(conn, request, key_id, secret)
            kept = CreateKeyResponse(key=response.key).SerializeToString()
            await idempotency.remember(conn, name, digest, kept, datetime.now(UTC))
        self.desired_changed()
        return response

    def _secret(self, idempotency_key: str, key_id: str) -> bytes:
        return hmac.new(self.pepper, f"secret of {key_id}\0{idempotency_key}".encode(), hashlib.sha256).digest()

    async def _create_key(
        self, conn: Connection, request: CreateKeyRequest, key_id: str, secret: bytes
    ) -> CreateKeyResponse:
        text = key_text(key_id, secret)
        digest = hmac.new(self.pepper, text.encode(), hashlib.sha256).digest()
        key = ApiKey(id=key_id, hash=digest, name=request.name, models=request.models, tenant="default")
        key.created_at.FromDatetime(datetime.now(UTC))
        if request.HasField("expires_at"):
            key.expires_at.CopyFrom(request.expires_at)
        await access.create_key(conn, key)
        return CreateKeyResponse(key=_without_hash(key), secret=text)

    @guarded
    async def ListKeys(self, _request: ListKeysRequest, _context: Context) -> ListKeysResponse:  # noqa: N802
        """All keys, without their hashes."""
        async with self.database.transaction() as conn:
            return ListKeysResponse(keys=[_without_hash(key) for key in await access.list_keys(conn)])

    @guarded
    async def RevokeKey(self, request: RevokeKeyRequest, _context: Context) -> RevokeKeyResponse:  # noqa: N802
        """Revoke a key; gateways refuse it as soon as they have the next table."""
        self.leadership.require()
        async with self.database.transaction() as conn:
            key = await access.revoke_key(conn, request.id, datetime.now(UTC))
        self.desired_changed()
        return RevokeKeyResponse(key=_without_hash(key))

    @guarded
    async def AddProvider(self, request: AddProviderRequest, context: Context) -> AddProviderResponse:  # noqa: N802
        """Offer a model of another provider under a public name."""
        self.leadership.require()
        provider = request.provider
        if not provider.model or not provider.provider_model:
            raise InvalidError("a provider needs a public model name and the provider's own name for the model")
        if provider.api_key_env and not provider.api_key_env.isidentifier():
            raise InvalidError(
                f"{provider.api_key_env!r} is not the name of an environment variable",
                "Name the variable of the gateway that holds the key; never give the key itself.",
            )
        async with self.database.transaction() as conn:
            await providers.add_provider(conn, provider, actor_of(context), datetime.now(UTC))
        self.desired_changed()
        return AddProviderResponse(provider=provider)

    @guarded
    async def ListProviders(  # noqa: N802 - the contract's name
        self, _request: ListProvidersRequest, _context: Context
    ) -> ListProvidersResponse:
        """Models of other providers."""
        async with self.database.transaction() as conn:
            return ListProvidersResponse(providers=await providers.list_providers(conn))

    @guarded
    async def RemoveProvider(  # noqa: N802 - the contract's name
        self, request: RemoveProviderRequest, _context: Context
    ) -> RemoveProviderResponse:
        """Offer a provider's model no more."""
        self.leadership.require()
        async with self.database.transaction() as conn:
            await providers.remove_provider(conn, request.model)
        self.desired_changed()
        return RemoveProviderResponse()

    @guarded
    async def ListUsage(self, request: ListUsageRequest, _context: Context) -> ListUsageResponse:  # noqa: N802
        """Requests and tokens, added up by model, key or day."""
        unknown = sorted(set(request.group_by) - GROUPS)
        if unknown:
            raise InvalidError(f"usage cannot be grouped by {', '.join(unknown)}", "Choose of: model, key, day.")
        since = request.since.ToDatetime(UTC) if request.HasField("since") else datetime.fromtimestamp(0, UTC)
        async with self.database.transaction() as conn:
            totals = await usage.totals(conn, since, list(request.group_by) or ["model"])
        return ListUsageResponse(totals=totals)


def _without_hash(key: ApiKey) -> ApiKey:
    shown = ApiKey()
    shown.CopyFrom(key)
    shown.ClearField("hash")
    return shown
