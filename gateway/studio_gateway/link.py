"""Which coordinator is being talked to, and when to try the next."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import grpc
import structlog
from studio.v1.route_service_pb2_grpc import RouteServiceStub
from studio_runtime.bearer import Bearer, Metadata
from studio_runtime.channel import open_channel
from studio_runtime.errors import UnauthenticatedError
from studio_runtime.settings import Address
from studio_runtime.tls import ClientTls

if TYPE_CHECKING:
    # The generated file has this class for type checkers only.
    from studio.v1.route_service_pb2_grpc import RouteServiceAsyncStub


NO_TOKEN = Bearer()

log = structlog.get_logger()


class Link:
    """A channel to one coordinator of several; each user has a link of its own, and turns it when a call fails."""

    def __init__(
        self,
        coordinators: Sequence[Address],
        tls: Callable[[], ClientTls | None] = lambda: None,
        bearer: Bearer = NO_TOKEN,
    ) -> None:
        self._bearer = bearer
        self._coordinators = coordinators
        # Asked anew for each channel: the certificate is renewed meanwhile.
        self._tls = tls
        self._turn = 0
        self._channel: grpc.aio.Channel | None = None

    @property
    def address(self) -> Address:
        """The coordinator that is tried now."""
        return self._coordinators[self._turn % len(self._coordinators)]

    def metadata(self) -> Metadata:
        """What says who calls, where the channel does not; nothing while the token cannot be read, and the call is refused.

        A gateway serves on through that, as through any other refusal of a coordinator.
        """
        try:
            return self._bearer.metadata()
        except UnauthenticatedError as error:
            log.warning("token_not_read", reason=error.message)
            return ()

    def service(self) -> "RouteServiceAsyncStub":
        """RouteService of the present coordinator."""
        if self._channel is None:
            self._channel = open_channel(self.address, self._tls())
        return RouteServiceStub(self._channel)

    async def turn(self) -> None:
        """Drop this connection; the next call goes to the next coordinator, over a new one without a back-off of its own."""
        self._turn += 1
        await self.close()

    async def close(self) -> None:
        """Drop the connection."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()
