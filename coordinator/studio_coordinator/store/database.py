"""The connection to PostgreSQL: bounded in every wait, and clear about what failed.

A server that is away or frozen shows as ``UnavailableError`` within seconds: connecting, waiting for a pooled connection, locks,
statements and idle transactions all have a limit, on the server and, where the server may be frozen, in this process.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, TypeAlias

from prometheus_client import Counter
from sqlalchemy import event, exc, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool
from studio_runtime.errors import ConflictError, InvalidError, UnavailableError

from studio_coordinator.store import migrations
from studio_coordinator.store.least_privilege import grant
from studio_coordinator.store.witness import WITNESS

# What the functions of the store take; other modules name it without knowing whose it is.
Connection: TypeAlias = AsyncConnection

APPLICATION = "studio-coordinator"

CONNECT_SECONDS = 5
STATEMENT_SECONDS = 10
LOCK_SECONDS = 5
IDLE_IN_TRANSACTION_SECONDS = 15
# Longer than the server's own limit, which says more; shorter than anybody's patience with a frozen server.
ANSWER_SECONDS = 15

UPGRADE_ATTEMPTS = 5
UPGRADE_PAUSE_SECONDS = 0.2

SERVER_SETTINGS = {
    "application_name": APPLICATION,
    "statement_timeout": f"{STATEMENT_SECONDS}s",
    "lock_timeout": f"{LOCK_SECONDS}s",
    "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_SECONDS}s",
    # So that the server lets go of what a vanished coordinator held.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}

# SQLSTATE classes and codes that are no bug of ours: connection, login, no such database, resources, shutdown; serialization
# failure, deadlock, lock not available, time-out of a statement or of an idle transaction, read-only standby.
AWAY = ("08", "28", "3D", "53", "57P", "58")
BUSY = ("40001", "40P01", "55P03", "57014", "25P03", "25006")
# A text with a character that PostgreSQL cannot hold: NUL.
BAD_TEXT = "22021"
# A row that this one names is gone, or one is to go that is named: somebody else's transaction came first.
NAMED_ROW = "23503"

HINT = "Is PostgreSQL running, and is STUDIO_DATABASE_URL right? Running engines are not affected."


STATEMENTS = Counter("studio_coordinator_statements_total", "Statements that were sent to the database")


class DatabaseBusyError(UnavailableError):
    """The database answers, and refused for now: a deadlock, a lock, too many connections."""

    reason = "database_busy"


class Database:
    """A pool of at most ``pool_size`` connections to ``url`` (``postgresql://`` or ``postgresql+asyncpg://``)."""

    def __init__(self, url: str, pool_size: int = 8) -> None:
        self._url = _postgres_url(url)
        self._engine = create_async_engine(
            self._url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=CONNECT_SECONDS,
            pool_pre_ping=True,
            connect_args=_connect_args(ANSWER_SECONDS),
        )
        event.listen(self._engine.sync_engine, "before_cursor_execute", lambda *_: STATEMENTS.inc())

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """BEGIN … COMMIT, ROLLBACK on an exception. Raises UnavailableError when the database is away, frozen or busy.

        ConflictError when a row that is written names one that was removed meanwhile, or the other way round.
        """
        # What a missing socket or an unknown host raises counts while connecting only: later it would be the caller's own.
        with _refusals(ConnectionError, TimeoutError):
            async with AsyncExitStack() as stack:
                with _refusals(OSError):
                    conn = await stack.enter_async_context(self._engine.begin())
                witness = WITNESS.get()
                if witness is not None:
                    await witness.begun(conn)
                yield conn
                if witness is not None:
                    await witness.committing(conn)

    async def ping(self) -> None:
        """Raise UnavailableError unless the database answers."""
        async with self.transaction() as conn:
            await conn.execute(text("SELECT 1"))

    async def upgrade(self, owner_url: str = "") -> str:
        """Bring the schema to this code's revision and return it; two that start at once do it one after the other.

        A schema that is newer is used as it is where it says that this code may; else SchemaTooNewError. With ``owner_url`` the
        role in it does that and owns what it makes; the role that this store connects as gets what it needs, and no more.
        """
        # A connection of its own: changing a large table may take longer than any answer otherwise may.
        owner = _postgres_url(owner_url) if owner_url else self._url
        engine = create_async_engine(owner, poolclass=NullPool, connect_args=_connect_args(None))
        for _ in range(UPGRADE_ATTEMPTS):
            try:
                with _refusals(OSError):
                    async with engine.begin() as conn:
                        revision = await conn.run_sync(migrations.upgrade)
                        if owner_url:
                            await conn.run_sync(grant, self._url.username or "")
                        return revision
            except DatabaseBusyError:
                # Against live writers the upgrade may be the one that a deadlock ends; nothing of it stayed.
                await asyncio.sleep(UPGRADE_PAUSE_SECONDS)
        raise DatabaseBusyError("the schema was not upgraded: the database is busy", "Start it again in a moment.")

    async def schema_revision(self) -> str:
        """The revision of the schema as it is; empty before the first upgrade."""
        async with self.transaction() as conn:
            return await conn.run_sync(migrations.current_revision)

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.dispose()


def _postgres_url(text: str) -> URL:
    """The URL with our driver. Raises InvalidError, which does not repeat it: it may hold a password."""
    try:
        url = make_url(text)
    except (exc.ArgumentError, ValueError):
        url = None
    if url is None or url.get_backend_name() not in ("postgresql", "postgres"):
        raise InvalidError(
            "the database's URL is not one of PostgreSQL",
            "STUDIO_DATABASE_URL is postgresql://USER:PASSWORD@HOST:PORT/DATABASE",
        )
    return url.set(drivername="postgresql+asyncpg")


def _connect_args(answer_seconds: float | None) -> dict[str, Any]:
    return {"timeout": CONNECT_SECONDS, "command_timeout": answer_seconds, "server_settings": SERVER_SETTINGS}


@contextmanager
def _refusals(*signs_of_absence: type[OSError]) -> Iterator[None]:
    """Turn what says that the database is away or busy, or that another came first, into ours; bugs stay what they are."""
    try:
        yield
    except exc.TimeoutError as error:
        raise DatabaseBusyError("the database is busy: all connections are in use", "Try again in a moment.") from error
    except exc.DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None) or ""
        if state.startswith(BUSY):
            raise DatabaseBusyError(
                f"the database refuses for now: {_cause(error.orig)}", "Try again in a moment."
            ) from error
        if state == BAD_TEXT:
            raise InvalidError("a text holds a NUL character", "Leave it out.") from error
        if state == NAMED_ROW:
            raise ConflictError(f"another change came first: {_cause(error.orig)}", "Look again.") from error
        if error.connection_invalidated or state.startswith(AWAY):
            raise UnavailableError(f"the database does not answer: {_cause(error.orig)}", HINT) from error
        raise
    except signs_of_absence as error:
        raise UnavailableError(f"the database does not answer: {_cause(error)}", HINT) from error


def _cause(error: BaseException | None) -> str:
    """The message of ``error`` in one line; its kind where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
