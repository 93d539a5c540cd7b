"""A coordinator: keeps the lease by its own clock, runs the real loop, and may die or be frozen between any two steps."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from studio_coordinator.gateways import GatewayRegistry
from studio_coordinator.knowledge.demand import DemandLog
from studio_coordinator.loop import LeaderLoop
from studio_coordinator.sessions import SessionRegistry
from studio_coordinator.wakeup import Wakeup
from studio_runtime.errors import ConflictError, UnavailableError

from sim.ledger import MemoryLedger
from sim.reception import Reception

if TYPE_CHECKING:
    from sim.story import Story

TTL_SECONDS = 15.0
# Silence of a frozen process after which its peers dial another.
KEEPALIVE_SECONDS = 30.0
# Between two passes; and after so long there is one without a reason.
PAUSE_SECONDS = 0.5
POLL_SECONDS = 2.0
FROZEN = 0.012


class Life:
    """All that dies with the process: what it knows of its peers, and the loop over it."""

    def __init__(self, story: "Story", process: "SimulatedCoordinator") -> None:
        self._story, self._process = story, process
        schedule = story.schedule
        self.term = 0
        self.renewed_at = self.leading_since = 0.0
        self.sessions = SessionRegistry()
        self.gateways = GatewayRegistry(lambda: schedule.now)
        self.demand = DemandLog(lambda: schedule.now)
        self.desired_changed = Wakeup()
        self.reception = Reception(story, process, self)
        self.loop = LeaderLoop(
            MemoryLedger(story, self),
            self.sessions,
            self.gateways,
            lambda _snapshot, _table: None,
            self.desired_changed,
        )
        # In order: who is cancelled first must not be left to chance.
        self._tasks: dict[asyncio.Task[None], None] = {}
        self.start(self._lead())

    @property
    def leads(self) -> bool:
        return self.term > 0 and self._story.schedule.now - self.renewed_at < TTL_SECONDS * 2 / 3

    @property
    def leading_for_seconds(self) -> float:
        return self._story.schedule.now - self.leading_since

    def wall(self) -> datetime:
        return self._story.schedule.wall() + timedelta(seconds=self._process.skew)

    def start(self, work: Coroutine[None, None, None]) -> None:
        task = self._story.schedule.start(work)
        self._tasks[task] = None
        task.add_done_callback(lambda task: self._tasks.pop(task, None))

    def end(self) -> None:
        self.reception.close()
        for task in list(self._tasks):
            task.cancel()

    async def step(self) -> None:
        """The database's answer takes its time; meanwhile, or right then, the process may die or be frozen."""
        await asyncio.sleep(self._story.chance.uniform(0.01, 0.3))
        if self._story.crash_by_chance():
            self._process.crash()
        elif not self._story.is_calm and self._story.chance.random() < FROZEN:
            self._process.freeze(self._story.chance.uniform(1, 40))
        # Whoever died is cancelled here.
        await asyncio.sleep(0)
        await self._process.thawed.wait()

    async def _lead(self) -> None:
        """`LeaderLoop.run`, with pauses that are long enough for a thousand stories."""
        while True:
            wakeups = (self.desired_changed, self.sessions.changed, self.gateways.changed)
            tickets = [source.ticket() for source in wakeups]
            again = self.leads and await self._pass()
            due = self._story.schedule.now + POLL_SECONDS
            await asyncio.sleep(PAUSE_SECONDS)
            while not again and self._story.schedule.now < due and not any(ticket.is_set() for ticket in tickets):
                await asyncio.sleep(PAUSE_SECONDS)

    async def _pass(self) -> bool:
        try:
            decided = await self.loop.one_pass()
        except ConflictError:
            return True
        except UnavailableError:
            return False
        return not decided.is_empty


class SimulatedCoordinator:
    def __init__(self, story: "Story", number: int) -> None:
        self.story, self.name = story, f"c{number}"
        self.is_down = False
        self.thawed = asyncio.Event()
        self.thawed.set()
        self._frozen_at = 0.0
        # What arrives while it is frozen waits in its sockets.
        self._waiting: list[Callable[[], None]] = []
        # Of its wall clock, in seconds; what it measures spans with does not jump.
        self.skew = 0.0
        self.life = Life(story, self)

    @property
    def is_frozen(self) -> bool:
        return not self.thawed.is_set()

    @property
    def leads(self) -> bool:
        return not self.is_down and not self.is_frozen and self.life.leads

    @property
    def answers(self) -> bool:
        """Whether peers take it for alive."""
        return not self.is_down and not (
            self.is_frozen and self.story.schedule.now - self._frozen_at > KEEPALIVE_SECONDS
        )

    def hears(self, host_id: str) -> bool:
        return self.leads and self.life.reception.hears(host_id)

    def receive(self, what: Callable[["Life"], None]) -> None:
        """Something arrives for whoever lives here."""
        if self.is_frozen:
            self._waiting.append(lambda: what(self.life))
        elif not self.is_down:
            what(self.life)

    # -- the lease -----------------------------------------------------------------------------------------------

    def keep_lease(self) -> None:
        if self.is_down or self.is_frozen:
            return
        life, now = self.life, self.story.schedule.now
        try:
            held, epoch = self.story.database.acquire_or_renew(self.name, TTL_SECONDS, renews=life.term > 0)
        except UnavailableError:
            return
        if (not held and life.term) or (held and life.term and epoch > life.term + 1):
            # Another led: begin anew, with nothing in memory.
            self._begin_anew()
        elif held:
            if epoch != life.term:
                life.leading_since = now
            life.term, life.renewed_at = epoch, now

    def look_after_streams(self) -> None:
        if not self.is_down and not self.is_frozen:
            self.life.reception.drop_the_silent()

    def keep_notes(self) -> None:
        """What a leader keeps for the next one: when hosts were last heard, and models last asked for."""
        if self.leads and not self.story.database.is_away:
            self.life.reception.keep_last_seen()
            if self.life.demand.term == self.life.term:
                self.story.database.rows.last_requests |= self.life.demand.last_uses(self.life.wall())

    # -- faults --------------------------------------------------------------------------------------------------

    def crash(self) -> None:
        """kill -9; its unit starts it again."""
        if self.is_down:
            return
        self.is_down = True
        self._waiting.clear()
        self.thawed.set()
        self._begin_anew()
        self.story.schedule.after(self.story.chance.uniform(1, 10), self._come_back)

    def freeze(self, seconds: float) -> None:
        """SIGSTOP, or a machine that swaps: everything in it stands still."""
        self.thawed.clear()
        self._frozen_at, life = self.story.schedule.now, self.life
        self.story.schedule.after(seconds, lambda: self._thaw(life))

    def _thaw(self, life: Life) -> None:
        if life is self.life:
            self.thawed.set()
            waiting, self._waiting = self._waiting, []
            for what in waiting:
                what()

    def _begin_anew(self) -> None:
        self.life.end()
        self.life = Life(self.story, self)

    def _come_back(self) -> None:
        self.is_down = False
