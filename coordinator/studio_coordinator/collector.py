"""When Python's garbage collector looks at what: never at the sessions of a whole fleet while hosts wait.

A host's session is two hundred objects that stay for as long as it lasts. Left to itself the collector looks at all of them
whenever a pass of the loop has made many others: a third of a second for 2,000 hosts, in which nothing else happens.

::

    made ──▶ young, collected often ──▶ frozen once sessions were opened: not looked at any more
                                          │
      thawed, and all of it collected ◀───╯  in a quiet moment, after as many sessions have ended as are open

What is no cycle is freed at once as ever, frozen or not. What of an ended session is one waits for the thaw: some kilobytes each.
"""

import asyncio
import gc
from dataclasses import dataclass

from studio_coordinator.sessions import SessionRegistry

# Objects between two looks at the young: a pass over a large fleet makes half as many.
YOUNG = 50_000
LOOK_SECONDS = 2.0
# Sessions that must have ended before a thaw is worth it.
FEWEST_ENDED = 500


def freeze_what_is_here() -> None:
    """Collect, and have the collector forget what is left: called once the process has started."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 10, 10)


@dataclass
class Collector:
    """Freezes and thaws as sessions come and go."""

    sessions: SessionRegistry
    _opened: int = 0
    _ended: int = 0
    _ended_at_thaw: int = 0

    async def run(self) -> None:
        """Look every few seconds, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """Freeze where sessions were opened since the last look; thaw where nothing moved and enough have ended."""
        opened, ended = self.sessions.ever_opened, self.sessions.ever_ended
        if opened != self._opened:
            # Of the young, a few milliseconds.
            gc.collect(1)
            gc.freeze()
        elif ended == self._ended and ended - self._ended_at_thaw >= max(FEWEST_ENDED, len(self.sessions)):
            self._ended_at_thaw = ended
            gc.unfreeze()
            gc.collect()
            gc.freeze()
        self._opened, self._ended = opened, ended
