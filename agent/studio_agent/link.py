"""An open session with the coordinator, as those see it who send on streams of their own."""

from dataclasses import dataclass

import grpc
from studio.v1.agent_service_pb2 import Welcome
from studio_runtime.bearer import Metadata


@dataclass(frozen=True)
class Link:
    """A channel that has just said Welcome; it is closed when the session ends."""

    channel: grpc.aio.Channel
    welcome: Welcome
    # What says who calls, where the channel does not.
    metadata: Metadata = ()
