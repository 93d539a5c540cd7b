"""The data path: one request to one engine of the fleet, and its answer back.

A request is tried a second time only while nothing of an answer has arrived: when no connection could be made (the endpoint is
ejected), or when the connection broke before the answer began (it may simply have been an idle one that the engine had closed).
"""

import asyncio
import io
import time
from typing import Self

import aiohttp
import structlog
from studio_runtime.tracing import current_traceparent
from yarl import URL

from studio_gateway.account import Account, Metrics
from studio_gateway.call import Call
from studio_gateway.exchange import Exchange
from studio_gateway.headers import for_engine
from studio_gateway.in_force import InForce
from studio_gateway.limits import Limits
from studio_gateway.openai_errors import upstream_error, upstream_timeout
from studio_gateway.relay import Patience, relay
from studio_gateway.table import Model, Target

log = structlog.get_logger()

ATTEMPTS = 2
# Engines close an idle connection after 5 s; sending on it at that moment would fail.
KEEP_ALIVE_SECONDS = 4.0
# Larger bodies are handed over in pieces.
SMALL_BODY_BYTES = 1024 * 1024
NO_HEADERS_OF_ITS_OWN = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class NotAnsweredError(Exception):
    """Nothing of an answer has arrived; the text says what the engine did."""


class Forwarder:
    """Sends requests to engines; use it as an ``async with`` block, which holds its connections."""

    def __init__(self, in_force: InForce, metrics: Metrics, limits: Limits) -> None:
        self._in_force = in_force
        self._metrics = metrics
        self._limits = limits

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._limits.connect_seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=NO_HEADERS_OF_ITS_OWN,
            auto_decompress=False,
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def serve(self, exchange: Exchange, call: Call, model: Model, account: Account) -> None:
        """Answer ``exchange`` from one of the targets of ``model``, which has some. Raises ApiError."""
        standings = self._in_force.standings
        tried: list[str] = []
        failure = NotAnsweredError()
        for attempt in range(ATTEMPTS):
            target = standings.pick(model.targets, tried, time.monotonic())
            tried.append(target.replica_id)
            account.replica_id, account.recipe_revision = target.replica_id, target.recipe_revision
            standing = standings.of(target.replica_id)
            standing.in_flight += 1
            try:
                await self._attempt(exchange, call, target, account)
            except NotAnsweredError as error:
                failure = error
                log.warning("engine_not_answering", replica=target.replica_id, attempt=attempt + 1, error=str(error))
            else:
                return
            finally:
                standing.in_flight -= 1
            if attempt + 1 < ATTEMPTS:
                self._metrics.retries.inc()
        raise upstream_error(str(failure)) from failure

    async def _attempt(self, exchange: Exchange, call: Call, target: Target, account: Account) -> None:
        """One request to ``target``. Raises NotAnsweredError before anything has come back, ApiError afterwards."""
        wait_seconds = self._limits.first_byte_seconds
        try:
            async with asyncio.timeout(wait_seconds) as timeout:
                response = await self._open(exchange, call, target)
                try:
                    wait_seconds = self._limits.idle_seconds
                    patience = Patience(timeout, wait_seconds)
                    patience.renew()
                    self._in_force.standings.answered(target.replica_id)
                    await relay(exchange, call, response, account, patience)
                except BaseException:
                    # Closing the connection is what tells the engine to stop.
                    response.close()
                    raise
                response.release()
        except TimeoutError as error:
            raise upstream_timeout(wait_seconds) from error

    async def _open(self, exchange: Exchange, call: Call, target: Target) -> aiohttp.ClientResponse:
        body = call.for_engine(target.engine_model) if call.model else call.body
        url = target.base_url + exchange.raw_path + (f"?{exchange.query}" if exchange.query else "")
        headers = for_engine(exchange.headers)
        headers += [("x-request-id", exchange.request_id), ("traceparent", current_traceparent())]
        try:
            return await self._session.request(
                exchange.method,
                URL(url, encoded=True),
                data=(body if len(body) <= SMALL_BODY_BYTES else io.BytesIO(body)) if body else None,
                headers=headers,
                allow_redirects=False,
            )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            seconds = self._in_force.standings.connect_failed(target.replica_id, time.monotonic())
            self._metrics.ejections.inc()
            log.warning("endpoint_ejected", replica=target.replica_id, seconds=seconds, error=str(error))
            raise NotAnsweredError("cannot be reached") from error
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            raise NotAnsweredError("closed the connection before it answered") from error
        except aiohttp.ClientError as error:
            raise upstream_error("sent something that is not HTTP") from error
