"""AccessService: secrets come in and never go out again here; hosts and gateways that need them have services of their own."""

from datetime import UTC, datetime
from typing import Any

import grpc
from studio.v1.access_service_pb2 import (
    ListSecretsRequest,
    ListSecretsResponse,
    PutSecretRequest,
    PutSecretResponse,
    RemoveSecretRequest,
    RemoveSecretResponse,
    Secret,
)
from studio_runtime.errors import InvalidError
from studio_runtime.logging import hide

from studio_coordinator.manifest.names import NAME, NAME_RULE
from studio_coordinator.rpc.guard import actor_of, guarded
from studio_coordinator.rpc.state import AdminState
from studio_coordinator.store import secrets, tenants

Context = grpc.aio.ServicerContext[Any, Any]

# More than any token or key; environment variables of Linux hold 128 KiB.
LONGEST_VALUE = 64 * 1024


class Secrets(AdminState):
    """Values that recipes and providers name."""

    @guarded
    async def PutSecret(self, request: PutSecretRequest, context: Context) -> PutSecretResponse:  # noqa: N802
        """Seal and store a value, in place of the one before; what runs has the old one until it starts anew."""
        self.leadership.require()
        if not NAME.fullmatch(request.name):
            raise InvalidError(f"{request.name!r} is not a name: {NAME_RULE}")
        if not request.value or len(request.value.encode()) > LONGEST_VALUE or "\0" in request.value:
            raise InvalidError(
                f"the value of {request.name} is empty, longer than {LONGEST_VALUE} bytes, or has a NUL",
                "An environment variable must be able to hold it.",
            )
        hide(request.value)
        secret = Secret(name=request.name, tenant=request.tenant, actor=actor_of(context))
        async with self.database.transaction() as conn:
            if secret.tenant:
                await tenants.get_tenant(conn, secret.tenant)
            stored = await secrets.put_secret(conn, self.sealer, secret, request.value, datetime.now(UTC))
        self.desired_changed()
        return PutSecretResponse(secret=stored)

    @guarded
    async def ListSecrets(self, _request: ListSecretsRequest, _context: Context) -> ListSecretsResponse:  # noqa: N802
        """Names, and who names them; never values."""
        async with self.database.transaction() as conn:
            return ListSecretsResponse(secrets=await secrets.list_secrets(conn))

    @guarded
    async def RemoveSecret(self, request: RemoveSecretRequest, _context: Context) -> RemoveSecretResponse:  # noqa: N802
        """Forget a value that nobody names any more."""
        self.leadership.require()
        async with self.database.transaction() as conn:
            await secrets.remove_secret(conn, request.name, force=request.force)
        self.desired_changed()
        return RemoveSecretResponse()
