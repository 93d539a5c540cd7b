"""Somebody who sees the transactions of one call from inside: how a change and its audit entry become one.

Set for the length of a call, it holds for every transaction that the call begins, and for no other.
"""

from contextvars import ContextVar
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection


class Witness(Protocol):
    """Told of a transaction's first and of its last moment; what it raises ends the transaction."""

    async def begun(self, conn: AsyncConnection) -> None:
        """Nothing was done yet."""

    async def committing(self, conn: AsyncConnection) -> None:
        """Everything was done, and it went well."""


WITNESS: ContextVar[Witness | None] = ContextVar("studio_witness", default=None)
