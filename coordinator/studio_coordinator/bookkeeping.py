"""What is written beside the plan: what agents report, when hosts were heard, and what grew old and goes.

Each task survives a database that is away: what could not be written is written later, or sent again by the agent.
"""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from studio.v1.agent_service_pb2 import EventBatch
from studio_runtime.errors import StudioError

from studio_coordinator.leadership import Leadership
from studio_coordinator.sessions import Session, SessionRegistry
from studio_coordinator.store import events, hosts, idempotency, join_tokens, usage
from studio_coordinator.store.database import Database
from studio_coordinator.wakeup import Wakeup, wait_for

log = structlog.get_logger()

EVENTS_KEPT = timedelta(days=30)
ANSWERS_KEPT = timedelta(days=1)
# Used ones tell who let a node in.
TOKENS_KEPT = timedelta(days=90)
USAGE_KEPT = timedelta(days=180)
PRUNE_SECONDS = 600.0
NOTES_RETRY_SECONDS = 2.0


@dataclass
class Bookkeeping:
    """The slower writers; one statement each, however many hosts there are."""

    database: Database
    leadership: Leadership
    sessions: SessionRegistry
    events_stored: Wakeup
    heartbeat_seconds: float

    async def keep_last_seen(self) -> None:
        """Store when each host was last heard, every few heartbeats."""
        while True:
            await asyncio.sleep(2 * self.heartbeat_seconds)
            now = datetime.now(UTC)
            states = [
                hosts.HostState.seen(session.host_id, session.epoch, now, session.silence_seconds())
                for session in self.sessions.all()
            ]
            if not states or not self.leadership.is_leader:
                continue
            try:
                async with self.database.transaction() as conn:
                    await hosts.set_states(conn, states)
            except StudioError as error:
                log.warning("last_seen_not_stored", reason=error.message)

    async def store_agent_events(self) -> None:
        """Store what agents report, then acknowledge it; what could not be stored is sent again by the agent."""
        while True:
            session, batch = await self.sessions.events.get()
            try:
                await self._store(session, batch)
            except StudioError as error:
                log.warning("events_not_stored", host=session.host_name, reason=error.message)
                session.close("its events could not be stored")
            except Exception:
                # What one host says must not end the service of the others.
                log.exception("events_not_stored", host=session.host_name)
                session.close("its events could not be stored")

    async def _store(self, session: Session, batch: EventBatch) -> None:
        async with self.database.transaction() as conn:
            acknowledged = await events.append_from_agent(conn, session.host_id, session.epoch, batch.events)
        session.acknowledge_events(acknowledged)
        self.events_stored.set()

    async def store_notes(self) -> None:
        """Store what the coordinator itself has to say of its sessions."""
        while True:
            ticket = self.sessions.noted.ticket()
            notes = list(self.sessions.notes)
            self.sessions.notes.clear()
            if notes:
                try:
                    async with self.database.transaction() as conn:
                        await events.append(conn, notes)
                except StudioError as error:
                    log.warning("notes_not_stored", reason=error.message)
                    self.sessions.notes.extendleft(reversed(notes))
                else:
                    self.events_stored.set()
            await wait_for(ticket, NOTES_RETRY_SECONDS)

    async def prune(self) -> None:
        """Remove events and remembered answers that are past their time."""
        while True:
            await asyncio.sleep(PRUNE_SECONDS)
            if not self.leadership.is_leader:
                continue
            now = datetime.now(UTC)
            try:
                async with self.database.transaction() as conn:
                    removed = await events.prune(conn, now - EVENTS_KEPT)
                    removed += await idempotency.prune(conn, now - ANSWERS_KEPT)
                    removed += await usage.prune(conn, now - USAGE_KEPT)
                    removed += await join_tokens.prune(conn, now - TOKENS_KEPT)
            except StudioError as error:
                log.warning("not_pruned", reason=error.message)
            else:
                log.debug("pruned", rows=removed)
