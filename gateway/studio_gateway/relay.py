"""An engine's answer on its way to the client: copied as it comes, its usage read by the way."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp

from studio_gateway.account import Account
from studio_gateway.call import USAGE_ON_REQUEST, Call
from studio_gateway.exchange import Exchange
from studio_gateway.headers import for_client
from studio_gateway.openai_errors import upstream_error
from studio_gateway.sse import EventStream, EventTooLongError

# An answer up to this size is held until it is whole, so that an engine that dies under it is still a clean 502.
HELD_BYTES = 1024 * 1024
# Usage stands at the end of an answer.
TAIL_BYTES = 64 * 1024
STATUS_OK = 200
FIRST_CLIENT_ERROR = 400
FIRST_SERVER_ERROR = 500


class Patience:
    """The time-out on an answer: begins anew with every part."""

    def __init__(self, timeout: asyncio.Timeout, idle_seconds: float) -> None:
        self._timeout = timeout
        self._idle_seconds = idle_seconds
        self._clock = asyncio.get_running_loop().time

    def renew(self) -> None:
        """Something has arrived or was taken."""
        self._timeout.reschedule(self._clock() + self._idle_seconds)


async def relay(
    exchange: Exchange, call: Call, response: aiohttp.ClientResponse, account: Account, patience: Patience
) -> None:
    """Copy ``response`` to the client. Raises ApiError when the engine breaks off."""
    account.status = response.status
    account.finish = _finish_of_status(response.status)
    if response.content_type == "text/event-stream":
        await _relay_events(exchange, call, response, account, patience)
    else:
        await _relay_plain(exchange, response, account, patience)


async def _relay_events(
    exchange: Exchange, call: Call, response: aiohttp.ClientResponse, account: Account, patience: Patience
) -> None:
    stream = EventStream(strip_usage=call.adds_usage)
    account.usage = stream.usage
    account.stream = True
    headers = [(name, value) for name, value in for_client(response.raw_headers) if name != b"content-length"]
    await exchange.begin(response.status, headers, events=True)
    with _breaking_off():
        while data := await response.content.readany():
            patience.renew()
            if events := stream.feed(data):
                account.first_byte_of_stream()
                await exchange.send(events)
    account.finish = stream.finish or account.finish
    # An answer whose end is the end of the connection breaks off without an error.
    if exchange.path in USAGE_ON_REQUEST and not stream.is_done and not stream.finish:
        raise upstream_error("broke off in the middle of its answer")
    await exchange.end(stream.finished())


async def _relay_plain(
    exchange: Exchange, response: aiohttp.ClientResponse, account: Account, patience: Patience
) -> None:
    headers = for_client(response.raw_headers)
    held = bytearray()
    with _breaking_off():
        while len(held) <= HELD_BYTES and (data := await response.content.readany()):
            patience.renew()
            held += data
    counts = response.status == STATUS_OK and response.content_type == "application/json"
    if response.content.at_eof():
        if counts:
            account.finish = account.usage.take_answer(bytes(held)) or account.finish
        await exchange.begin(response.status, headers)
        await exchange.end(bytes(held))
        return
    await exchange.begin(response.status, headers)
    await exchange.send(bytes(held))
    tail = bytes(held[-TAIL_BYTES:])
    with _breaking_off():
        while data := await response.content.readany():
            patience.renew()
            tail = (tail + data)[-TAIL_BYTES:]
            await exchange.send(data)
    if counts:
        account.usage.take_tail(tail)
    await exchange.end()


@contextmanager
def _breaking_off() -> Iterator[None]:
    """What an engine can do wrong in the middle of an answer, as the error that the client is told."""
    try:
        yield
    except EventTooLongError as error:
        raise upstream_error("sent something that is no stream of events") from error
    except (aiohttp.ClientError, OSError) as error:
        if isinstance(error, TimeoutError):
            raise
        raise upstream_error("broke off in the middle of its answer") from error


def _finish_of_status(status: int) -> str:
    if status < FIRST_CLIENT_ERROR:
        return "complete"
    return "rejected" if status < FIRST_SERVER_ERROR else "engine_error"
