"""One request that waits for its model."""

from collections.abc import Callable

from studio_gateway.deadlines import Deadlines
from studio_gateway.exchange import EVENTS, Exchange
from studio_gateway.openai_errors import ApiError
from studio_gateway.table import Model

# Clients and proxies give up on a connection that is silent for 30 s or more.
KEEP_ALIVE_SECONDS = 10.0
COMMENT = b": waiting for the model\n\n"
STATUS_OK = 200

Go = Callable[[Model], None]


class Held:
    """It ends by ``release`` or ``refuse``, or by ``stop`` when its client is gone; ``left`` is called once in each case."""

    __slots__ = (
        "_deadlines",
        "_exchange",
        "_give_up_at",
        "_go",
        "_is_paused",
        "_left",
        "_refuse",
        "_streams",
        "_too_late",
        "deadline",
    )

    def __init__(
        self,
        exchange: Exchange,
        deadlines: Deadlines,
        seconds: float,
        *,
        streams: bool,
        go: Go,
        refuse: Callable[[ApiError], None],
        too_late: Callable[[], ApiError],
        left: Callable[["Held"], None],
    ) -> None:
        self._exchange = exchange
        self._deadlines = deadlines
        self._streams = streams
        self._go = go
        self._refuse = refuse
        self._too_late = too_late
        self._left = left
        self._is_paused = False
        self._give_up_at = deadlines.clock() + seconds
        self.deadline = self._next_deadline()
        deadlines.watch(self)

    def release(self, model: Model) -> None:
        """Its model can answer."""
        self._leave()
        self._go(model)

    def refuse(self, error: ApiError) -> None:
        """It is not to be had."""
        self._leave()
        self._refuse(error)

    def stop(self) -> None:
        """Its client is gone."""
        self._leave()

    def pause(self) -> None:
        """The client has to catch up first."""
        self._is_paused = True

    def resume(self) -> None:
        """The client has caught up."""
        self._is_paused = False

    def expired(self) -> None:
        """The time is over, or it is time for a comment."""
        if self._deadlines.clock() >= self._give_up_at:
            self.refuse(self._too_late())
            return
        if not self._is_paused:
            if not self._exchange.is_started:
                self._exchange.begin(STATUS_OK, [EVENTS, (b"cache-control", b"no-cache")], events=True)
            self._exchange.send(COMMENT)
        self.deadline = self._next_deadline()

    def _next_deadline(self) -> float:
        if not self._streams:
            return self._give_up_at
        return min(self._give_up_at, self._deadlines.clock() + KEEP_ALIVE_SECONDS)

    def _leave(self) -> None:
        self._deadlines.forget(self)
        self._left(self)
