"""``keep_connected``: dial, converse, wait, dial again, for as long as the agent lives."""

import asyncio
import random
from collections.abc import Callable, Sequence

import grpc
import structlog
from studio.v1.agent_service_pb2_grpc import AgentServiceStub
from studio_runtime.bearer import Bearer, Metadata
from studio_runtime.channel import open_channel
from studio_runtime.errors import StudioError, from_rpc_error, leader_of
from studio_runtime.settings import Address
from studio_runtime.tls import ClientTls

from studio_agent import metrics
from studio_agent.latest import Latest
from studio_agent.link import Link
from studio_agent.session.conversation import Conversation
from studio_agent.session.coordinators import Coordinators
from studio_agent.session.reconnect import Backoff

NO_TOKEN = Bearer()

log = structlog.get_logger()

# How a server says how long to stay away.
PUSHBACK = "grpc-retry-pushback-ms"


async def keep_connected(
    addresses: Sequence[Address],
    conversation: Conversation,
    current: Latest[Link | None],
    tls: Callable[[], ClientTls | None] = lambda: None,
    bearer: Bearer = NO_TOKEN,
) -> None:
    """Keep a session open with the one of ``addresses`` that leads; ``current`` holds it. Returns only by cancellation.

    ``tls`` is asked anew for each connection: the certificate is renewed meanwhile. None: in clear text, with the token of
    ``bearer``, if it has one.
    """
    backoff, loop = Backoff(random.uniform), asyncio.get_running_loop()
    coordinators = Coordinators(addresses)
    while True:
        began, asked, leader = loop.time(), 0.0, ""
        coordinator = coordinators.current
        try:
            await _once(coordinators, conversation, current, tls(), bearer.metadata())
        except* (StudioError, grpc.aio.AioRpcError) as group:
            error = _first(group)
            held = loop.time() - began
            if isinstance(error, grpc.aio.AioRpcError):
                asked, leader = _asked_seconds(error), leader_of(error)
                error = from_rpc_error(error, f"the coordinator at {coordinator}")
            log.warning("session_lost", coordinator=str(coordinator), held_seconds=round(held, 1), error=str(error))
        if not coordinators.failed(leader) or asked:
            await asyncio.sleep(backoff.next_wait(loop.time() - began, asked))


async def _once(
    coordinators: Coordinators,
    conversation: Conversation,
    current: Latest[Link | None],
    tls: ClientTls | None,
    metadata: Metadata,
) -> None:
    # A channel for each try: a kept one would wait out its own back-off first.
    coordinator = coordinators.current
    async with open_channel(coordinator, tls) as channel:
        call = AgentServiceStub(channel).Connect(metadata=metadata)
        try:
            welcome = await conversation.open(call)
            coordinators.served()
            metrics.CONNECTED.set(1)
            log.info("session_open", coordinator=str(coordinator), epoch=welcome.session_epoch, host=welcome.host_name)
            current.set(Link(channel, welcome, metadata))
            await conversation.go_on(call, welcome)
        finally:
            metrics.CONNECTED.set(0)
            current.set(None)
            call.cancel()


def _first(group: BaseExceptionGroup[Exception]) -> Exception:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, Exception) else SystemError(error)


def _asked_seconds(error: grpc.aio.AioRpcError) -> float:
    if error.code() != grpc.StatusCode.RESOURCE_EXHAUSTED:
        return 0.0
    for key, value in error.trailing_metadata() or ():
        if key == PUSHBACK and str(value).isdigit():
            return int(value) / 1000.0
    return 1.0
