"""Keeps the keyring of this coordinator in step with the database, makes the first authority, and rotates."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog
from prometheus_client import Gauge
from studio.v1.access_service_pb2 import Authority
from studio.v1.event_pb2 import Event
from studio_runtime.errors import SafetyError, StudioError

from studio_coordinator.authority.certificates import Signer, make_authority
from studio_coordinator.authority.keyring import Keyring, context_of, row_of
from studio_coordinator.authority.phases import Holder, Standing, Step, next_step
from studio_coordinator.sealing import Sealer
from studio_coordinator.store import authorities, events, identities
from studio_coordinator.store.authorities import AuthorityRow
from studio_coordinator.store.database import Connection, Database
from studio_coordinator.store.identities import IdentityRow
from studio_coordinator.wakeup import Wakeup

log = structlog.get_logger()

# Another coordinator may have rotated.
POLL_SECONDS = 2.0
NAMED_WAITERS = 8
EXPIRES = Gauge(
    "studio_coordinator_authority_expires_timestamp_seconds", "When the authority that signs certificates runs out"
)


@dataclass
class AuthorityOffice:
    """The authorities as this coordinator knows them; ``given`` is an operator's, to be used instead of one of our own."""

    database: Database
    sealer: Sealer
    given: Signer | None = None
    changed: Wakeup = field(default_factory=Wakeup)

    def __post_init__(self) -> None:
        self.keyring = Keyring()
        self._rows: list[AuthorityRow] = []
        self._refreshing = asyncio.Lock()

    async def open(self) -> None:
        """Make the first authority where there is none, take up the given one, and know all. Raises StudioError."""
        now = datetime.now(UTC)
        async with self.database.transaction() as conn:
            await authorities.lock(conn)
            rows = await authorities.list_authorities(conn)
            for row in rows:
                await self._reseal(conn, row)
            if (new := self._to_add(rows, now)) is not None:
                await authorities.add(conn, new)
                log.info("authority_added", fingerprint=new.fingerprint, phase=new.phase, given=new.given)
        await self.refresh()

    def _to_add(self, rows: list[AuthorityRow], now: datetime) -> AuthorityRow | None:
        if self.given is not None and self.given.fingerprint not in {row.fingerprint for row in rows}:
            if any(row.phase == Authority.PHASE_TRUSTED for row in rows):
                raise SafetyError(
                    "the authority of --ca-cert cannot be taken up: another one waits to sign already",
                    "Finish that rotation first: `studio authority rotate`, without --ca-cert.",
                )
            phase = Authority.PHASE_TRUSTED if rows else Authority.PHASE_SIGNING
            return row_of(self.given, phase, self.sealer, now, given=True)
        if not rows:
            return row_of(make_authority(now), Authority.PHASE_SIGNING, self.sealer, now, given=False)
        return None

    async def _reseal(self, conn: Connection, row: AuthorityRow) -> None:
        """Seal a key anew where another master key seals now, so that the old one can go."""
        if not self.sealer.is_current(row.sealed_key):
            key = self.sealer.open(row.sealed_key, context_of(row.fingerprint))
            await authorities.reseal(conn, row.fingerprint, self.sealer.seal(key, context_of(row.fingerprint)))

    async def current(self, conn: Connection) -> Keyring:
        """The keyring as of this transaction, which may know more than the one that this coordinator serves with."""
        rows = await authorities.list_authorities(conn)
        return self.keyring if rows == self._rows else Keyring.open(rows, self.sealer)

    async def refresh(self) -> None:
        """Serve with what the database holds now. One at a time: an older picture must not replace a newer one."""
        async with self._refreshing:
            async with self.database.transaction() as conn:
                rows = await authorities.list_authorities(conn)
            if rows != self._rows:
                self._rows, self.keyring = rows, Keyring.open(rows, self.sealer)
                EXPIRES.set(self.keyring.signing.certificate.not_valid_after_utc.timestamp())
                self.changed.set()

    async def run(self) -> None:
        """Follow what other coordinators change, until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await self.refresh()
            except StudioError as error:
                log.warning("authorities_not_read", reason=error.message)

    async def listed(self) -> list[Authority]:
        """All authorities, each with how many live identities it signed."""
        await self.refresh()
        async with self.database.transaction() as conn:
            live = _live(await identities.list_identities(conn), datetime.now(UTC))
        return self._messages(live)

    async def rotate(self, *, force: bool, actor: str) -> str:
        """One step further; what it did and what comes next. Raises SafetyError where nodes would be cut off."""
        now = datetime.now(UTC)
        async with self.database.transaction() as conn:
            await authorities.lock(conn)
            rows = await authorities.list_authorities(conn)
            live = _live(await identities.list_identities(conn), now)
            step = next_step(
                [Standing(row.fingerprint, row.phase) for row in rows],
                [Holder(row.identity.name, row.authority, row.trusted) for row in live],
            )
            if step.waits_for and not force:
                raise _not_yet(step)
            if step.makes_new:
                await authorities.add(conn, self._successor(rows, now))
            for fingerprint, phase in step.changes.items():
                if phase is None:
                    await authorities.remove(conn, fingerprint)
                else:
                    await authorities.set_phase(conn, fingerprint, phase)
            message = _told(step)
            await events.append(conn, [_rotated(message, actor, now)])
        await self.refresh()
        log.info("authority_rotated", message=message, forced=bool(step.waits_for))
        return message

    def _successor(self, rows: list[AuthorityRow], now: datetime) -> AuthorityRow:
        if any(row.given and row.phase == Authority.PHASE_SIGNING for row in rows):
            raise SafetyError(
                "the authority that signs was given with --ca-cert: this coordinator makes no successor of it",
                "Start the coordinators with the next one's --ca-cert and --ca-key, then rotate.",
            )
        return row_of(make_authority(now), Authority.PHASE_TRUSTED, self.sealer, now, given=False)

    def _messages(self, live: list[IdentityRow]) -> list[Authority]:
        held = Counter(row.authority for row in live)
        messages = []
        for known in self.keyring.authorities:
            message = Authority(
                fingerprint=known.fingerprint,
                phase=known.phase,
                identities=held[known.fingerprint],
                certificate=known.signer.pem,
            )
            message.created_at.FromDatetime(known.created_at)
            message.expires_at.FromDatetime(known.signer.certificate.not_valid_after_utc)
            messages.append(message)
        return messages


def _live(rows: list[IdentityRow], now: datetime) -> list[IdentityRow]:
    """Identities whose certificate is still good and which are not refused."""
    return [row for row in rows if not row.identity.locked_reason and row.identity.expires_at.ToDatetime(UTC) > now]


def _not_yet(step: Step) -> SafetyError:
    names = ", ".join(step.waits_for[:NAMED_WAITERS])
    more = len(step.waits_for) - NAMED_WAITERS
    waiting = names + (f" and {more} more" if more > 0 else "")
    what = (
        "still hold certificates of the retiring authority"
        if None in step.changes.values()
        else "have not heard of the new one"
    )
    return SafetyError(
        f"the next step would cut nodes off that {what}: {waiting}",
        "Connected nodes renew within seconds; revoke those that are gone for good, or go on with --force.",
    )


def _rotated(message: str, actor: str, now: datetime) -> Event:
    event = Event(kind="authority.rotated", severity=Event.SEVERITY_INFO, message=message, actor=actor)
    event.at.FromDatetime(now)
    return event


def _told(step: Step) -> str:
    if step.makes_new:
        return (
            "a new authority is trusted beside the old one and signs nothing yet; connected nodes learn of it within seconds. "
            "Give consoles the new `studio authority show --pem`, then rotate again"
        )
    if None in step.changes.values():
        return "the old authority is gone; the rotation is done"
    return (
        "the new authority signs; connected nodes get its certificates within seconds. Rotate again to end the old one"
    )
