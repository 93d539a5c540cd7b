"""New connections to engines: the one part of the data path that waits.

It is not compiled, as nothing is that has coroutines: mypyc's let the exception that they are handling be seen by every
other task while they wait.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import cast

from studio_gateway.upstream import Address, EngineConnection, Pool


class Dialler:
    """Makes connections for ``pool``, each in a task of its own."""

    def __init__(self, pool: Pool, connect_seconds: float) -> None:
        self._pool = pool
        self._connect_seconds = connect_seconds
        self._tls: ssl.SSLContext | None = None
        # The loop keeps no tasks alive by itself.
        self._tasks: set[asyncio.Task[None]] = set()

    def dial(
        self,
        address: Address,
        connected: Callable[[EngineConnection], None],
        failed: Callable[[Exception], None],
    ) -> asyncio.Task[None]:
        """Connect to ``address``, and call one of the two: ``failed`` with an OSError where nobody accepts."""
        task = asyncio.get_running_loop().create_task(self._dial(address, connected, failed))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _dial(
        self,
        address: Address,
        connected: Callable[[EngineConnection], None],
        failed: Callable[[Exception], None],
    ) -> None:
        try:
            connection = await self._connect(address)
        except Exception as error:  # noqa: BLE001 - whoever asked is told of every end
            failed(error)
        else:
            connected(connection)

    async def _connect(self, address: Address) -> EngineConnection:
        if address.is_tls and self._tls is None:
            self._tls = await asyncio.to_thread(ssl.create_default_context)
        async with asyncio.timeout(self._connect_seconds):
            _, protocol = await asyncio.get_running_loop().create_connection(
                lambda: cast("asyncio.Protocol", EngineConnection(self._pool, address)),
                address.host,
                address.port,
                ssl=self._tls if address.is_tls else None,
            )
        return cast("EngineConnection", protocol)
