"""Keys of providers that are stored secrets: asked of the coordinator, kept in memory, never on disk.

They are asked for when a table names one that is not known, and again from time to time, for an operator may change them. While
no coordinator answers, what is known stays good.
"""

import asyncio
from typing import Any

import grpc
import structlog
from studio.v1.route_service_pb2 import GetProviderSecretsRequest
from studio_runtime.logging import hide

from studio_gateway.in_force import InForce
from studio_gateway.link import Link

log = structlog.get_logger()

REFRESH_SECONDS = 60.0
RETRY_SECONDS = 2.0
CALL_SECONDS = 10.0


class ProviderKeys:
    """``run`` has to run beside it; until its first answer no key is known."""

    def __init__(self, link: Link, in_force: InForce) -> None:
        self._link = link
        self._in_force = in_force
        self._news = asyncio.Event()
        self._known: dict[str, str] = {}
        self._refused: dict[str, str] = {}

    def of(self, secret: str) -> str:
        """The value of the stored secret; "" where it is not known (yet)."""
        return self._known.get(secret, "")

    def look(self, _routes: object) -> None:
        """A table has come into force: see whether it names other secrets."""
        self._news.set()

    async def run(self) -> None:
        """Keep the keys in step, until cancelled."""
        try:
            while True:
                self._news.clear()
                names = self._names()
                self._known = {name: value for name, value in self._known.items() if name in names}
                known = await self._ask(names) if names else True
                try:
                    async with asyncio.timeout(REFRESH_SECONDS if known else RETRY_SECONDS):
                        await self._news.wait()
                except TimeoutError:
                    pass
        finally:
            await self._link.close()

    def _names(self) -> frozenset[str]:
        table = self._in_force.route_table
        routes: Any = () if table is None else table.provider_routes
        return frozenset(route.api_key_secret for route in routes) - {""}

    async def _ask(self, names: frozenset[str]) -> bool:
        """Whether all of ``names`` are known now. One that is refused does not keep the others away."""
        answered = True
        for name in sorted(names):
            try:
                answer = await self._link.service().GetProviderSecrets(
                    GetProviderSecretsRequest(names=[name]), timeout=CALL_SECONDS, metadata=self._link.metadata()
                )
            except grpc.aio.AioRpcError as error:
                answered = False
                self._note_refusal(name, error)
                if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    await self._link.turn()
                    break
                continue
            self._refused.pop(name, None)
            for value in answer.values.values():
                hide(value)
            self._known.update(answer.values)
        return answered

    def _note_refusal(self, name: str, error: grpc.aio.AioRpcError) -> None:
        """Once is news; that it is still so is not."""
        reason = error.details() or error.code().name
        if self._refused.get(name) != reason:
            self._refused[name] = reason
            log.warning("provider_secret_not_known", secret=name, reason=reason)
