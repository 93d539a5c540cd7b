"""Leadership: one lease row in the database whose epoch is the fencing token.

The lease is renewed at a third of its time. Whoever could not renew it stops acting at two thirds, by its own monotonic clock:
before the database would let anyone else take over. Every write of the leader names the epoch besides.
"""

import asyncio
import time
from dataclasses import dataclass

import structlog
from studio_runtime.errors import NotLeadingError, StudioError, UnavailableError

from studio_coordinator.store import lease as lease_rows
from studio_coordinator.store.database import Database
from studio_coordinator.wakeup import Wakeup

log = structlog.get_logger()

# Stopping does not wait longer for a database that does not answer: the lease runs out by itself.
RELEASE_SECONDS = 2.0


class LostLeadershipError(StudioError):
    """Another coordinator leads now."""


@dataclass
class Leadership:
    """Whether this process leads, and at which term."""

    database: Database
    holder: str
    address: str
    ttl_seconds: float = 15.0

    def __post_init__(self) -> None:
        self.changed = Wakeup()
        # Set once it is known who leads, this process or another.
        self.decided = asyncio.Event()
        self.leader_address = ""
        self._term = 0
        self._renewed_at = 0.0
        self._leading_since = 0.0

    @property
    def term(self) -> int:
        """The epoch of the lease that this process last held."""
        return self._term

    @property
    def is_leader(self) -> bool:
        """Holds the lease, with time left to act."""
        return self._term > 0 and time.monotonic() - self._renewed_at < self.ttl_seconds * 2 / 3

    @property
    def leading_for_seconds(self) -> float:
        """How long this process has led."""
        return time.monotonic() - self._leading_since

    def require(self) -> None:
        """Raise NotLeadingError, naming the leader, when this process does not lead."""
        if self.is_leader:
            return
        # Its own address while its lease is in doubt: whoever comes back there finds nothing better.
        leader = self.leader_address if self.leader_address != self.address else ""
        where = f"the leader is at {leader}" if leader else "no leader is known yet"
        raise NotLeadingError(
            f"this coordinator does not lead: {where}", "Name all coordinators with --coordinator.", leader
        )

    async def keep(self) -> None:
        """Take the lease when it is free and renew it for as long as the process runs.

        Raises LostLeadershipError when another took over: the process then starts anew as a standby, with nothing in memory.
        """
        while True:
            started = time.monotonic()
            try:
                async with self.database.transaction() as conn:
                    lease = await lease_rows.acquire_or_renew(
                        conn, self.holder, self.address, self.ttl_seconds, renews=self._term > 0
                    )
            except UnavailableError as error:
                log.warning("lease_not_renewed", reason=error.message, leading=self.is_leader)
            else:
                self._take(lease, started)
            await asyncio.sleep(self.ttl_seconds / 3 if self.is_leader else min(1.0, self.ttl_seconds / 3))

    def adopt(self, term: int) -> None:
        """Go on in ``term``, which this leader itself has just begun in the database."""
        self._term, self._leading_since = term, time.monotonic()
        log.info("leading", term=term)
        self.changed.set()

    async def release(self) -> None:
        """Give the lease up, so that another need not wait for its end."""
        if not self._term:
            return
        try:
            async with asyncio.timeout(RELEASE_SECONDS), self.database.transaction() as conn:
                await lease_rows.release(conn, self.holder)
        except (UnavailableError, TimeoutError) as error:
            log.warning("lease_not_released", reason=str(error))

    def _take(self, lease: lease_rows.Lease, started: float) -> None:
        self.leader_address = lease.address
        self.decided.set()
        if not lease.held:
            if self._term:
                raise LostLeadershipError(f"the coordinator at {lease.address} leads now, at term {lease.epoch}")
            return
        if self._term and lease.epoch > self._term + 1:
            raise LostLeadershipError(f"others led between term {self._term} and {lease.epoch}")
        if lease.epoch != self._term:
            # One higher than ours: the lease ran out while the database was away, and nobody else took it. No host could open a
            # session meanwhile, so all of them get the time that they get after any change of leader.
            self._leading_since = time.monotonic()
            self._term = lease.epoch
            log.info("leading", term=lease.epoch)
        # Counted from before the database was asked: the lease there is never shorter than what is believed here.
        self._renewed_at = started
        self.changed.set()
