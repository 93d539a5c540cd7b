"""LiteLLM in a process of its own: its memory, its import and its garbage stay away from the data path.

::

    wanted ──► STARTING ──says its port──► SERVING ──has ended──► started again, a second later
                  │                           ▲
                  └ requests wait for it ─────┘

To the data path it is one more engine on loopback: picking, counting, retrying and draining are the same as on the direct way.
Its standard input brings tables and keys, numbered; a request names the number that it needs, for the two come by different
ways. What is asked of it, of whom and by whom stands in the request's path, behind a word that changes with each start.
Its standard output says its port, and then which replicas it could not reach. It ends with this process, however that ends.
"""

import asyncio
import contextlib
import json
import os
import secrets
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import structlog
from studio.v1.route_pb2 import ProviderRoute, RouteTable

from studio_gateway.account import Account
from studio_gateway.call import Call
from studio_gateway.exchange import Exchange
from studio_gateway.forward import Forwarder
from studio_gateway.in_force import InForce
from studio_gateway.litellm_answers import not_offered
from studio_gateway.openai_errors import SERVER, ApiError, upstream_error
from studio_gateway.provider_call import OPERATIONS
from studio_gateway.table import THROUGH_LITELLM, Model, Routes, Target
from studio_gateway.work import Done, Work

log = structlog.get_logger()

AGAIN_SECONDS = 1.0
START_SECONDS = 60.0
END_SECONDS = 5.0
# Where no replica is meant.
NOBODY = "-"


@dataclass(frozen=True)
class Child:
    """The process, serving; ``said`` counts what it has been told."""

    process: asyncio.subprocess.Process
    root: str


class LiteLlmProcess:
    """Has a process of its own answer through LiteLLM; ``run`` keeps it running once it is wanted."""

    def __init__(
        self, in_force: InForce, forwarder: Forwarder, stored_key: Callable[[str], str], config: Path | None, level: str
    ) -> None:
        self._in_force = in_force
        self._forwarder = forwarder
        self._stored_key = stored_key
        self._first = {"config": str(config) if config is not None else "", "log_level": level}
        self._wanted = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._child: Child | None = None
        self._said = 0
        # By the name of the stored secret, as last told.
        self._keys: dict[str, str] = {}
        self._waiting: set[Waiting] = set()

    def look(self, routes: Routes) -> None:
        """A table has come into force."""
        if any(model.provider is not None or model.is_through_litellm for model in routes.by_name.values()):
            self._wanted.set()
        self._tell_table()

    async def run(self) -> None:
        """Keep the process running once it is wanted, until cancelled; then end it."""
        await self._wanted.wait()
        while True:
            await self._live()
            log.error("litellm_process_lost")
            await asyncio.sleep(AGAIN_SECONDS)

    def forward(
        self,
        exchange: Exchange,
        call: Call,
        model: Model,
        account: Account,
        traceparent: str,
        done: Done,
        *,
        has_others: bool,
    ) -> Work:
        """Answer ``exchange`` for ``model``; ``done`` is called once, at the end, unless it is stopped. Raises ApiError."""
        if exchange.path not in OPERATIONS or exchange.method != "POST":
            raise not_offered(exchange, model)
        self._wanted.set()
        if model.provider is not None:
            account.provider = model.provider.provider_model.partition("/")[0]

        def go(child: Child) -> Work:
            # It may have waited: what is in force now counts.
            routes = self._in_force.routes
            now = model if routes is None else routes.by_name.get(model.name, model)
            if now.provider is not None:
                self._tell_key(now.provider)
            elif not now.targets:
                raise upstream_error("has been withdrawn")
            through = replace(now, targets=self._targets(child, call, now))
            return self._forwarder.forward(exchange, call, through, account, traceparent, done, has_others=has_others)

        if self._child is not None:
            return go(self._child)
        waiting = Waiting(go, done, self._waiting.discard)
        self._waiting.add(waiting)
        return waiting

    def _targets(self, child: Child, call: Call, model: Model) -> tuple[Target, ...]:
        """The endpoints of ``model``, each reached through the process; for another provider, the process itself."""
        root = f"{child.root}/{self._said}/{quote(model.name, safe='')}"
        targets = model.targets or (Target("", "", 1.0, "", 0),)
        return tuple(
            replace(one, base_url=f"{root}/{quote(one.replica_id, safe='') or NOBODY}", engine_model=call.model)
            for one in targets
        )

    async def _live(self) -> None:
        """One process, from its start to its end."""
        word = secrets.token_urlsafe(24)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "studio_gateway.litellm_child",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            self._process, self._keys = process, {}
            self._tell({"word": word, "parent": os.getpid(), "said": self._said, **self._first})
            self._tell_table()
            async for said in _lines_of(process):
                if port := said.get("port"):
                    log.info("litellm_process_serves", process=process.pid)
                    self._child = Child(process, f"http://127.0.0.1:{port}/{word}")
                    for waiting in list(self._waiting):
                        waiting.start(self._child)
                elif replica_id := said.get("unreachable"):
                    self._eject(replica_id)
            await process.wait()
        finally:
            self._child = self._process = None
            await _end(process)

    def _eject(self, replica_id: str) -> None:
        """The way to an engine is not seen from here: what a connection that fails is on the direct way."""
        seconds = self._in_force.standings.connect_failed(replica_id, asyncio.get_running_loop().time())
        self._in_force.metrics.ejections.inc()
        log.warning("endpoint_ejected", replica=replica_id, seconds=seconds, error="LiteLLM cannot reach it")

    def _tell_table(self) -> None:
        table = self._in_force.route_table
        if table is not None:
            # Nothing of the others is its business.
            own = RouteTable(version=table.version, term=table.term, provider_routes=table.provider_routes)
            own.routes.extend(route for route in table.routes if route.via == THROUGH_LITELLM)
            self._tell({"routes": b64encode(own.SerializeToString()).decode("ascii")})

    def _tell_key(self, provider: ProviderRoute) -> None:
        name = provider.api_key_secret
        if name and self._keys.get(name) != (value := self._stored_key(name)):
            self._keys[name] = value
            self._tell({"keys": {name: value}})

    def _tell(self, message: dict[str, Any]) -> None:
        """One line more; a few, and small, so that they may wait in the pipe's buffer."""
        if self._process is None or self._process.stdin is None or self._process.stdin.is_closing():
            return
        self._said += 1
        self._process.stdin.write(json.dumps(message).encode() + b"\n")


class Waiting:
    """A request that waits for the process to serve."""

    def __init__(self, go: Callable[[Child], Work], done: Done, over: Callable[["Waiting"], None]) -> None:
        self._go = go
        self._done = done
        self._over = over
        self._work: Work | None = None
        self._is_paused = False
        self._late = asyncio.get_running_loop().call_later(START_SECONDS, self._refuse)

    def start(self, child: Child) -> None:
        """The process serves."""
        self._leave()
        try:
            self._work = self._go(child)
        except ApiError as error:
            self._done(error)
            return
        if self._is_paused:
            self._work.pause()

    def stop(self) -> None:
        """It is wanted no more."""
        self._leave()
        if self._work is not None:
            self._work.stop()

    def pause(self) -> None:
        """The client has to catch up first."""
        self._is_paused = True
        if self._work is not None:
            self._work.pause()

    def resume(self) -> None:
        """The client has caught up."""
        self._is_paused = False
        if self._work is not None:
            self._work.resume()

    def _leave(self) -> None:
        self._late.cancel()
        self._over(self)

    def _refuse(self) -> None:
        self._leave()
        message = "LiteLLM, through which this model is reached, has not started; the gateway's log says why."
        self._done(ApiError(503, "litellm_not_started", message, kind=SERVER, finish="unavailable"))


async def _lines_of(process: asyncio.subprocess.Process) -> AsyncIterator[dict[str, Any]]:
    """What it says, until it ends."""
    while process.stdout is not None and (line := await process.stdout.readline()):
        yield json.loads(line)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(END_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
