"""The data path: one request to one engine of the fleet, and its answer back.

::

    CONNECTING ──connected──► ASKED ──head──► ANSWERING ──end──► over
        │                       │                 │
        │ nobody listens:       │ broke off:      │ broke off, stalled
        ▼ the endpoint is       ▼ perhaps it was  ▼
      retry, else 502  ejected  retry, else 502   error event, or the end of the connection
                                idle too long

A request is tried a second time only while nothing of an answer has arrived, and only within the budget for that; the second
time on a new connection, for the first may have been one that the engine had just closed. Nothing of this is a task, but for the
making of a connection: parts of an answer go from one socket to the other in the call that reads them.
"""

import asyncio

import structlog

from studio_gateway.account import Account, Metrics
from studio_gateway.affinity import prefix_of, session_key, work_of
from studio_gateway.call import Call
from studio_gateway.deadlines import NEVER, Deadlines
from studio_gateway.dial import Dialler
from studio_gateway.exchange import Exchange
from studio_gateway.fallback import EngineRefusalError
from studio_gateway.headers import for_engine
from studio_gateway.http1 import AnswerHead
from studio_gateway.in_force import InForce
from studio_gateway.limits import Limits
from studio_gateway.openai_errors import ApiError, internal_error, upstream_error, upstream_timeout
from studio_gateway.pick import Wish
from studio_gateway.relay import Relay, relay_of
from studio_gateway.retry_budget import RetryBudget
from studio_gateway.standing import Standing
from studio_gateway.strategies import PREFIX_AFFINITY
from studio_gateway.table import Model, Target
from studio_gateway.upstream import Asker, EngineConnection, Pool, address_of
from studio_gateway.work import Done

log = structlog.get_logger()

ATTEMPTS = 2
SESSION_HEADER = b"x-studio-session"
# The engine has failed, and not only refused: 501 and 503 are what a sound one says too.
FAILURES = frozenset((500, 502, 504))
HAVE_BODIES = frozenset(("POST", "PUT", "PATCH"))


class Forwarder:
    """Sends requests to engines over the connections of ``pool``."""

    def __init__(self, in_force: InForce, pool: Pool, deadlines: Deadlines, metrics: Metrics, limits: Limits) -> None:
        self.in_force = in_force
        self.pool = pool
        self.deadlines = deadlines
        self.metrics = metrics
        self.limits = limits
        self.budget = RetryBudget()
        self.dialler = Dialler(pool, limits.connect_seconds)

    def forward(
        self,
        exchange: Exchange,
        call: Call,
        model: Model,
        account: Account,
        traceparent: str,
        done: Done,
        *,
        has_others: bool = False,
    ) -> "Transfer":
        """Answer ``exchange`` from one of the targets of ``model``, which has some; ``done`` is called once, at the end.

        With ``has_others`` an engine that refuses is an end with an error: other models can be asked.
        """
        self.budget.earn()
        transfer = Transfer(self, exchange, call, model, account, traceparent, done, has_others=has_others)
        transfer.start()
        return transfer


class Transfer(Asker):
    """One request on its way; see the picture above."""

    __slots__ = (
        "_account",
        "_attempts",
        "_call",
        "_connecting",
        "_connection",
        "_done",
        "_exchange",
        "_forwarder",
        "_has_others",
        "_is_over",
        "_is_paused",
        "_model",
        "_patience",
        "_relay",
        "_standing",
        "_target",
        "_traceparent",
        "_tried",
        "_wish",
        "deadline",
    )

    def __init__(
        self,
        forwarder: Forwarder,
        exchange: Exchange,
        call: Call,
        model: Model,
        account: Account,
        traceparent: str,
        done: Done,
        *,
        has_others: bool,
    ) -> None:
        self._forwarder = forwarder
        self._has_others = has_others
        self._exchange = exchange
        self._call = call
        self._model = model
        self._account = account
        self._traceparent = traceparent
        self._done = done
        self._wish = wish_of(exchange, call, model)
        self._tried: list[str] = []
        self._target: Target = model.targets[0]
        self._standing: Standing | None = None
        self._connection: EngineConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._relay: Relay | None = None
        self._is_over = False
        self._is_paused = False
        self._patience = forwarder.limits.first_byte_seconds
        self.deadline = NEVER

    def start(self) -> None:
        """Send the request."""
        self._renew()
        self._forwarder.deadlines.watch(self)
        self._attempt()

    def stop(self) -> None:
        """The answer is wanted no more: the engine is told by the end of its connection."""
        if not self._is_over:
            self._close()

    def pause(self) -> None:
        """The client has to catch up first."""
        self._is_paused = True
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        """The client has caught up."""
        self._is_paused = False
        self._renew()
        if self._connection is not None:
            self._connection.resume()

    def expired(self) -> None:
        """Nothing has come from the engine, or gone to the client, for too long."""
        if not self._is_paused:
            self._failed()
        self._end(upstream_timeout(self._patience))

    # One attempt.

    def _attempt(self) -> None:
        forwarder, account = self._forwarder, self._account
        in_force, now = forwarder.in_force, forwarder.deadlines.clock()
        target = in_force.picker.pick(self._model.targets, self._tried, now, self._wish, self._model.name)
        self._target = target
        account.replica_id, account.recipe_revision = target.replica_id, target.recipe_revision
        self._standing = in_force.standings.of(target.replica_id)
        self._standing.began(self._wish.work)
        is_first = not self._tried
        self._tried.append(target.replica_id)
        connection = forwarder.pool.take(address_of(target.base_url)) if is_first else None
        if connection is not None:
            self._ask(connection)
            return
        self._connecting = forwarder.dialler.dial(address_of(target.base_url), self._ask, self._not_connected)

    def _not_connected(self, error: Exception) -> None:
        self._connecting = None
        replica_id = self._target.replica_id
        if not isinstance(error, OSError):
            log.error("connecting_failed", request=self._exchange.id, replica=replica_id, exc_info=error)
            self._end(internal_error(self._exchange.id))
            return
        standings, now = self._forwarder.in_force.standings, self._forwarder.deadlines.clock()
        seconds = standings.connect_failed(replica_id, now)
        self._note_ejection(seconds, str(error))
        self._not_answered("cannot be reached")

    def _ask(self, connection: EngineConnection) -> None:
        self._connecting = None
        self._connection = connection
        exchange, call = self._exchange, self._call
        body = call.for_engine(self._target.engine_model)
        self._account.is_asked = True
        connection.ask(self, exchange.method, self._head(connection, len(body)), body)

    def _head(self, connection: EngineConnection, length: int) -> bytes:
        exchange, address = self._exchange, connection.address
        query = f"?{exchange.query}" if exchange.query else ""
        target = address.prefix + f"{exchange.raw_path}{query}".encode("ascii")
        lines = [b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (exchange.method.encode("ascii"), target, address.authority)]
        lines += [
            b"%b: %b\r\n" % header for header in for_engine(exchange.headers, exchange.by_name.get(b"connection"))
        ]
        own = f"x-request-id: {exchange.request_id}\r\ntraceparent: {self._traceparent}\r\n"
        if length or exchange.method in HAVE_BODIES:
            own += f"content-length: {length}\r\n"
        lines.append(own.encode("latin-1") + b"\r\n")
        return b"".join(lines)

    # What the connection tells.

    def answer_begins(self, head: AnswerHead) -> None:
        """The engine has answered."""
        self._patience = self._forwarder.limits.idle_seconds
        self._renew()
        if head.status in FAILURES:
            self._failed()
        else:
            self._forwarder.in_force.standings.answered(self._target.replica_id)
        self._relay = relay_of(self._exchange, self._call, head, self._account, has_others=self._has_others)

    def take_part(self, data: bytes) -> None:
        """A part of the answer."""
        self.deadline = self._forwarder.deadlines.clock() + self._patience
        try:
            if self._relay is not None:
                self._relay.take(data)
        except ApiError as error:
            self._end(error)

    def read_is_over(self) -> None:
        """No more at present: the head need not wait any longer for a first part."""
        self._exchange.flush()

    def answer_ends(self) -> None:
        """The answer is whole."""
        self._connection = None
        error: ApiError | None = None
        try:
            if self._relay is not None:
                self._relay.end()
        except EngineRefusalError as refusal:
            error = refusal
        except ApiError as raised:
            self._failed()
            error = raised
        self._end(error)

    def answer_breaks(self, reason: str, *, has_begun: bool) -> None:
        """The engine has closed the connection, or does not speak HTTP."""
        self._connection = None
        if has_begun:
            self._failed()
            self._end(upstream_error("broke off in the middle of its answer" if self._relay is not None else reason))
        else:
            self._not_answered(reason)

    # Ends.

    def _not_answered(self, reason: str) -> None:
        """Nothing of an answer has arrived: try once more, or give up."""
        forwarder = self._forwarder
        log.warning("engine_not_answering", replica=self._target.replica_id, attempt=len(self._tried), error=reason)
        self._release()
        if len(self._tried) < ATTEMPTS and forwarder.budget.spend():
            forwarder.metrics.retries.inc()
            self._attempt()
        else:
            self._end(upstream_error(reason))

    def _end(self, error: ApiError | None) -> None:
        if not self._is_over:
            self._close()
            self._done(error)

    def _close(self) -> None:
        self._is_over = True
        self._forwarder.deadlines.forget(self)
        self._release()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()
        if self._connecting is not None:
            self._connecting.cancel()

    def _release(self) -> None:
        standing, self._standing = self._standing, None
        if standing is not None:
            standing.ended(self._wish.work)

    def _failed(self) -> None:
        replica_id, now = self._target.replica_id, self._forwarder.deadlines.clock()
        if seconds := self._forwarder.in_force.standings.answer_failed(replica_id, now):
            self._note_ejection(seconds, "it failed several times in a row")

    def _note_ejection(self, seconds: float, reason: str) -> None:
        self._forwarder.metrics.ejections.inc()
        log.warning("endpoint_ejected", replica=self._target.replica_id, seconds=seconds, error=reason)

    def _renew(self) -> None:
        self.deadline = self._forwarder.deadlines.clock() + self._patience


def wish_of(exchange: Exchange, call: Call, model: Model) -> Wish:
    """What this request brings to the choice of an endpoint."""
    work = work_of(len(call.body))
    if len(model.targets) == 1:
        return Wish(work)
    session = session_key(exchange.header(SESSION_HEADER))
    prefix = prefix_of(call.document) if model.strategy == PREFIX_AFFINITY else b""
    return Wish(work, model.strategy, session, prefix)
