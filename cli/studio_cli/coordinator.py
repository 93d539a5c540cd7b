"""A connection to the coordinator: found, with a deadline on each call, and with its refusals turned back into errors."""

import asyncio
import getpass
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

import grpc
from studio.v1.access_service_pb2_grpc import AccessServiceStub
from studio.v1.admin_service_pb2 import GetStatusRequest
from studio.v1.admin_service_pb2_grpc import AdminServiceStub
from studio.v1.telemetry_service_pb2_grpc import TelemetryServiceStub
from studio_runtime.bearer import Bearer, Metadata
from studio_runtime.channel import open_channel
from studio_runtime.errors import REFUSAL_KEY, StudioError, from_rpc_error
from studio_runtime.settings import Address
from studio_runtime.tls import ClientTls
from studio_runtime.tracing import current_traceparent

from studio_cli.credentials import check_channel
from studio_cli.errors import UnreachableError

if TYPE_CHECKING:
    # Only the stub file knows this class.
    from studio.v1.access_service_pb2_grpc import AccessServiceAsyncStub
    from studio.v1.admin_service_pb2_grpc import AdminServiceAsyncStub
    from studio.v1.telemetry_service_pb2_grpc import TelemetryServiceAsyncStub

Request = TypeVar("Request")
Response = TypeVar("Response")

NO_TOKEN = Bearer()
CALL_SECONDS = 10.0
CONNECT_SECONDS = 3.0


@dataclass(frozen=True)
class Coordinator:
    """Calls to the coordinator at ``address``."""

    address: Address
    admin: "AdminServiceAsyncStub"
    access: "AccessServiceAsyncStub"
    telemetry: "TelemetryServiceAsyncStub"
    bearer: Bearer = NO_TOKEN

    async def call(
        self, method: grpc.aio.UnaryUnaryMultiCallable[Request, Response], request: Request, doing: str
    ) -> Response:
        """One call with a deadline; ``doing`` names it in the error. Raises StudioError."""
        try:
            return await method(request, timeout=CALL_SECONDS, metadata=self._metadata())
        except grpc.aio.AioRpcError as error:
            raise self._refusal(error, doing) from None

    async def stream(
        self, method: grpc.aio.UnaryStreamMultiCallable[Request, Response], request: Request, doing: str
    ) -> AsyncIterator[Response]:
        """What the coordinator sends until it ends the stream. Raises StudioError."""
        call = method(request, metadata=self._metadata())
        try:
            async for response in call:
                yield response
        except grpc.aio.AioRpcError as error:
            raise self._refusal(error, doing) from None
        finally:
            call.cancel()

    def _metadata(self) -> Metadata:
        return (*call_metadata(), *self.bearer.metadata())

    def _refusal(self, error: grpc.aio.AioRpcError, doing: str) -> StudioError:
        refused = any(key == REFUSAL_KEY for key, _ in error.trailing_metadata() or ())
        if error.code() is grpc.StatusCode.UNAVAILABLE and not refused:
            return unreachable(str(self.address))
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return UnreachableError(
                f"{doing}: the coordinator at {self.address} did not answer within {CALL_SECONDS:.0f} s",
                "Look at its log; `studio status` tells whether it answers at all.",
            )
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return StudioError(
                f"{doing}: the coordinator at {self.address} does not know this request",
                "It is of another version than this CLI: compare `studio version` with `studio status`.",
            )
        return from_rpc_error(error, doing)


def call_metadata() -> tuple[tuple[str, str], ...]:
    """What goes with each call: who asks, and the trace it belongs to."""
    traceparent = current_traceparent()
    request_id = ("studio-request-id", uuid4().hex)
    return (("studio-actor", actor()), request_id, *((("traceparent", traceparent),) if traceparent else ()))


def actor() -> str:
    """``user@host`` of whoever runs the command, in ASCII as gRPC metadata must be."""
    user = str(os.getuid())
    with suppress(KeyError, OSError):
        user = getpass.getuser()
    return f"{user}@{socket.gethostname()}".encode("ascii", "replace").decode("ascii")


def unreachable(where: str) -> UnreachableError:
    """No coordinator answers at ``where``."""
    return UnreachableError(
        f"cannot reach the coordinator at {where}: is it running?",
        "Start it with `studio up`, or name another one with --coordinator HOST:PORT. "
        "One that serves with TLS is called at its --admin-listen, with STUDIO_CA_FILE naming its authority.",
    )


@asynccontextmanager
async def connect(
    addresses: Sequence[Address], tls: ClientTls | None = None, bearer: Bearer = NO_TOKEN
) -> AsyncIterator[Coordinator]:
    """The one of ``addresses`` that leads, else the first that accepts a connection. Raises UnreachableError where none does.

    One that stands by serves reads, so where none leads for now a command still shows what is.
    """
    async with AsyncExitStack() as channels:
        standing_by: list[Coordinator] = []
        for address in addresses:
            check_channel(bearer, tls, address)
            channel = await channels.enter_async_context(open_channel(address, tls))
            if not await accepts(channel):
                continue
            found = Coordinator(
                address, AdminServiceStub(channel), AccessServiceStub(channel), TelemetryServiceStub(channel), bearer
            )
            if len(addresses) == 1 or await leads(found):
                yield found
                return
            standing_by.append(found)
        if not standing_by:
            raise unreachable(", ".join(map(str, addresses)))
        yield standing_by[0]


async def leads(coordinator: Coordinator) -> bool:
    """Whether it says so; one that does not answer, because it is frozen or too old, does not."""
    try:
        status = await coordinator.admin.GetStatus(
            GetStatusRequest(), timeout=CONNECT_SECONDS, metadata=(*call_metadata(), *coordinator.bearer.metadata())
        )
    except grpc.aio.AioRpcError:
        return False
    return status.leader


async def accepts(channel: grpc.aio.Channel) -> bool:
    """Whether the other side takes the connection: false at the first refusal, or after CONNECT_SECONDS of silence."""
    state = channel.get_state(try_to_connect=True)
    with suppress(TimeoutError):
        async with asyncio.timeout(CONNECT_SECONDS):
            while state not in (grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE):
                await channel.wait_for_state_change(state)
                state = channel.get_state(try_to_connect=True)
    return state is grpc.ChannelConnectivity.READY
