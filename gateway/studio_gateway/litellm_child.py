"""``python -m studio_gateway.litellm_child``: answers through LiteLLM for the gateway that has started it, and for nobody else.

In:   lines of JSON on standard input, numbered as they come: who asks (``word``), then tables and keys; its end is the end.
      Requests on a loopback port: ``/WORD/NUMBER/MODEL/REPLICA/v1/…``, of which the first part has to be right.
Out:  lines of JSON on standard output: its port, then each replica that nobody listened at; answers.
"""

import asyncio
import hmac
import json
import os
import sys
from base64 import b64decode
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import unquote

import structlog
from prometheus_client import CollectorRegistry
from studio.v1.route_pb2 import RouteTable
from studio_runtime.logging import configure_logging, hide
from studio_runtime.process import die_with_parent, run_until_stopped
from studio_runtime.settings import Address

from studio_gateway.account import Account, Metrics
from studio_gateway.call import Call, read_call
from studio_gateway.deadlines import Deadlines
from studio_gateway.exchange import Exchange
from studio_gateway.in_force import InForce
from studio_gateway.limits import Limits
from studio_gateway.litellm_import import LiteLlmConfigError, read_settings
from studio_gateway.litellm_lane import LiteLlmLane, NobodyListensError
from studio_gateway.openai_errors import ApiError, model_not_found, not_found
from studio_gateway.server import Server, listen
from studio_gateway.work import TaskWork

log = structlog.get_logger()

LIMITS = Limits()
# A table of thousands of models.
LONGEST_LINE_BYTES = 64 * 1024 * 1024
TOLD_SECONDS = 10.0


class Told:
    """What the gateway has said so far."""

    def __init__(self, in_force: InForce, said: int) -> None:
        self._in_force = in_force
        self._count = said
        self._news = asyncio.Condition()
        self.keys: dict[str, str] = {}

    async def follow(self, lines: asyncio.StreamReader) -> None:
        """Take line after line, until there are no more."""
        while line := await lines.readline():
            message = json.loads(line)
            if "routes" in message:
                self._in_force.put_routes(RouteTable.FromString(b64decode(message["routes"])))
            for name, value in message.get("keys", {}).items():
                hide(value)
                self.keys[name] = value
            async with self._news:
                self._count += 1
                self._news.notify_all()

    async def until(self, number: int) -> None:
        """Wait for what a request needs. Raises TimeoutError."""
        async with asyncio.timeout(TOLD_SECONDS), self._news:
            await self._news.wait_for(lambda: self._count >= number)


class Door:
    """The requests of the gateway."""

    def __init__(self, word: str, told: Told, in_force: InForce, lane: LiteLlmLane, lines: TextIO) -> None:
        self.word = word
        self.told = told
        self.lines = lines
        self.in_force = in_force
        self.lane = lane
        self.metrics = in_force.metrics
        self.running: set[Asked] = set()
        # Nothing is waited for at the end: see ``end_all``.
        self.is_idle = asyncio.Event()
        self.is_idle.set()

    def open(self, exchange: Exchange) -> "Asked":
        """The head of a request is here."""
        return Asked(self, exchange)

    def say(self, **fields: Any) -> None:
        """One line to the gateway, which reads them as they come."""
        self.lines.write(json.dumps(fields) + "\n")
        self.lines.flush()

    def end_all(self) -> None:
        """The gateway has drained already: what still runs has nobody to go to."""
        for asked in list(self.running):
            asked.abandon(None)


class Asked:
    """One request."""

    def __init__(self, door: Door, exchange: Exchange) -> None:
        self._door = door
        self._exchange = exchange
        self._work: TaskWork | None = None
        parts = exchange.raw_path.split("/", 5)
        if len(parts) != 6 or not hmac.compare_digest(parts[1], door.word) or not parts[2].isdecimal():  # noqa: PLR2004 - see above
            exchange.fail(not_found(exchange.method, exchange.path))
            return
        self._number, self._model, self._replica_id = int(parts[2]), unquote(parts[3]), unquote(parts[4])
        exchange.raw_path = f"/{parts[5]}"
        exchange.path = unquote(exchange.raw_path)
        door.running.add(self)

    def take_body(self, body: bytes) -> None:
        """The body is whole: answer."""
        exchange = self._exchange
        if exchange.is_ended:
            return
        try:
            call = read_call(exchange.path, exchange.header(b"content-type"), body, LIMITS.json_depth)
        except ApiError as error:
            self._end(error)
            return
        self._work = TaskWork(lambda may_send: self._serve(call, may_send), exchange.id, self._end)

    def abandon(self, error: ApiError | None) -> None:
        """Stop: with ``error``, or because the gateway wants it no more."""
        if self._work is not None:
            self._work.stop()
        self._end(error)

    def pause(self) -> None:
        """The gateway has to catch up first."""
        if self._work is not None:
            self._work.pause()

    def resume(self) -> None:
        """The gateway has caught up."""
        if self._work is not None:
            self._work.resume()

    async def _serve(self, call: Call, may_send: asyncio.Event) -> None:
        """Raises ApiError."""
        door, exchange = self._door, self._exchange
        await door.told.until(self._number)
        routes = door.in_force.routes
        model = routes.by_name.get(self._model) if routes is not None else None
        if model is None:
            raise model_not_found(self._model, [])
        account = Account(exchange.id, exchange.path)
        try:
            await door.lane.serve(
                exchange,
                call,
                model,
                account,
                exchange.header(b"traceparent"),
                may_send,
                replica_id="" if model.provider is not None else self._replica_id,
            )
        except NobodyListensError:
            # The gateway sees a connection that breaks, and tries another endpoint; the line says whose fault it was.
            door.say(unreachable=self._replica_id)
            exchange.drop()

    def _end(self, error: ApiError | None) -> None:
        self._door.running.discard(self)
        if error is not None:
            self._exchange.fail(error)


def _own_output() -> TextIO:
    """Standard output, for lines to the gateway alone: what LiteLLM prints goes to standard error from here on."""
    own = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return own


async def _run() -> None:
    output = _own_output()
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=LONGEST_LINE_BYTES)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    first: dict[str, Any] = json.loads(await lines.readline())
    configure_logging("gateway", first["log_level"])
    die_with_parent()
    if os.getppid() != first["parent"]:
        sys.exit("The gateway that started this process has ended.")
    try:
        settings = read_settings(Path(first["config"])) if first["config"] else {}
    except LiteLlmConfigError as error:
        sys.exit(str(error))
    in_force = InForce(Metrics(CollectorRegistry()))
    told = Told(in_force, first["said"] + 1)
    sock = listen(Address("127.0.0.1", 0))

    with Deadlines() as deadlines:
        lane = LiteLlmLane(
            in_force, LIMITS, enabled=True, stored_key=lambda name: told.keys.get(name, ""), settings=settings
        )
        in_force.on_routes.append(lane.look)
        door = Door(first["word"], told, in_force, lane, output)

        async def announce() -> None:
            door.say(port=sock.getsockname()[1])

        async with asyncio.TaskGroup() as tasks:
            server = Server(door, deadlines, LIMITS)
            parts = [tasks.create_task(lane.run()), tasks.create_task(server.serve(sock, announce))]
            await told.follow(lines)
            for part in parts:
                part.cancel()


if __name__ == "__main__":
    run_until_stopped(_run)
