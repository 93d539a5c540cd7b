"""An engine's answer on its way to the client: copied as it comes, its usage read by the way."""

from abc import ABC, abstractmethod

from studio_gateway.account import Account
from studio_gateway.call import USAGE_ON_REQUEST, Call
from studio_gateway.exchange import Exchange, Headers
from studio_gateway.fallback import BAD_REQUEST, ENGINE_STATUSES, judged
from studio_gateway.headers import for_client
from studio_gateway.http1 import AnswerHead
from studio_gateway.openai_errors import engine_error, upstream_error
from studio_gateway.sse import EventStream, EventTooLongError
from studio_gateway.usage import UsageSearch

# An answer up to this size is held until it is whole, so that an engine that dies under it is still a clean 502.
HELD_BYTES = 1024 * 1024
# So much of an error is read.
LONGEST_ERROR_BYTES = 64 * 1024
STATUS_OK = 200
FIRST_CLIENT_ERROR = 400
FIRST_SERVER_ERROR = 500


class Relay(ABC):
    """One answer on its way."""

    __slots__ = ()

    @abstractmethod
    def take(self, data: bytes) -> None:
        """Copy a part. Raises ApiError where it is not what its head said."""

    @abstractmethod
    def end(self) -> None:
        """The engine's answer is whole. Raises ApiError where it says itself that it is not."""


def relay_of(exchange: Exchange, call: Call, head: AnswerHead, account: Account, *, has_others: bool) -> Relay:
    """What copies an answer with this head; with ``has_others``, one that is an engine's refusal is not copied."""
    if has_others and (head.status in ENGINE_STATUSES or head.status == BAD_REQUEST):
        return JudgingRelay(exchange, call, head, account)
    account.status = head.status
    account.finish = _finish_of_status(head.status)
    content_type = head.by_name.get(b"content-type", b"").partition(b";")[0].strip().lower()
    headers = for_client(head.fields, head.by_name.get(b"connection"))
    if exchange.is_started and (content_type != b"text/event-stream" or head.status != STATUS_OK):
        return LateRelay(exchange, head.status)
    if content_type == b"text/event-stream":
        return EventRelay(exchange, call, head.status, headers, account)
    return PlainRelay(exchange, head, headers, account, counts=content_type == b"application/json")


class EventRelay(Relay):
    """A stream of events: each leaves as soon as it is whole."""

    __slots__ = ("_account", "_exchange", "_stream")

    def __init__(self, exchange: Exchange, call: Call, status: int, headers: Headers, account: Account) -> None:
        self._exchange = exchange
        self._account = account
        self._stream = EventStream(strip_usage=call.adds_usage)
        account.usage = self._stream.usage
        account.stream = True
        if not exchange.is_started:
            exchange.begin(status, headers, events=True)

    def take(self, data: bytes) -> None:
        """Copy the events that are whole now."""
        try:
            events = self._stream.feed(data)
        except EventTooLongError as error:
            raise upstream_error("sent something that is no stream of events") from error
        if events:
            if self._account.first_token is None:
                self._account.first_byte_of_stream()
            self._exchange.send(events)

    def end(self) -> None:
        """End the stream. An answer whose end is the end of the connection breaks off without an error: so look for its end."""
        stream = self._stream
        self._account.finish = stream.finish or self._account.finish
        if self._exchange.path in USAGE_ON_REQUEST and not stream.is_done and not stream.finish:
            raise upstream_error("broke off in the middle of its answer")
        self._exchange.end(stream.finished())


class JudgingRelay(Relay):
    """An answer of which only the whole says whether it goes to the client, or another model is asked."""

    __slots__ = ("_account", "_call", "_exchange", "_head", "_held")

    def __init__(self, exchange: Exchange, call: Call, head: AnswerHead, account: Account) -> None:
        self._exchange = exchange
        self._call = call
        self._head = head
        self._account = account
        self._held = b""

    def take(self, data: bytes) -> None:
        """Hold a part."""
        self._held += data
        if len(self._held) > HELD_BYTES:
            raise upstream_error("refused with more words than anybody reads")

    def end(self) -> None:
        """Copy it after all. Raises ApiError where another model should be asked."""
        if (refusal := judged(self._head.status, self._held)) is not None:
            # It has said no, so it has done nothing.
            self._account.is_asked = False
            raise refusal
        relay = relay_of(self._exchange, self._call, self._head, self._account, has_others=False)
        relay.take(self._held)
        relay.end()


class PlainRelay(Relay):
    """Any other answer: held until it is whole, unless it is large."""

    __slots__ = ("_account", "_counts", "_exchange", "_head", "_headers", "_held", "_search", "_size")

    def __init__(
        self, exchange: Exchange, head: AnswerHead, headers: Headers, account: Account, *, counts: bool
    ) -> None:
        self._exchange = exchange
        self._head = head
        self._headers = headers
        self._account = account
        self._counts = counts and head.status == STATUS_OK
        self._held: list[bytes] = []
        self._size = 0
        self._search = UsageSearch(account.usage)

    def take(self, data: bytes) -> None:
        """Hold or copy a part."""
        if self._exchange.is_started:
            self._copy(data)
            return
        self._held.append(data)
        self._size += len(data)
        if self._size > HELD_BYTES:
            self._exchange.begin(self._head.status, self._headers, length=self._head.length)
            held, self._held = b"".join(self._held), []
            self._copy(held)

    def end(self) -> None:
        """Answer with what was held, or end what was copied."""
        if self._exchange.is_started:
            self._exchange.end()
            return
        body = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        if self._counts:
            self._account.finish = self._account.usage.take_answer(body) or self._account.finish
        length = len(body)
        if self._exchange.method == "HEAD":
            # The length that the body would have had; without one that is known, any number would be wrong.
            given = self._head.by_name.get(b"content-length", b"")
            length = int(given) if given.isdigit() else 0
        self._exchange.begin(self._head.status, self._headers, length=length)
        self._exchange.end(body)

    def _copy(self, data: bytes) -> None:
        if self._counts:
            self._search.feed(data)
        self._exchange.send(data)


class LateRelay(Relay):
    """What is no stream, where comments were sent while the model woke: the client gets it as the last event of its stream."""

    __slots__ = ("_exchange", "_held", "_status")

    def __init__(self, exchange: Exchange, status: int) -> None:
        self._exchange = exchange
        self._status = status
        self._held = b""

    def take(self, data: bytes) -> None:
        """Hold a part; an error is short."""
        self._held = (self._held + data)[:LONGEST_ERROR_BYTES]

    def end(self) -> None:
        """End the stream with what the engine said of the error."""
        error = engine_error(self._status, self._held)
        self._exchange.end(error.event(anthropic=self._exchange.is_anthropic))


def _finish_of_status(status: int) -> str:
    if status < FIRST_CLIENT_ERROR:
        return "complete"
    return "rejected" if status < FIRST_SERVER_ERROR else "engine_error"
