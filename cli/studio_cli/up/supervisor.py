"""The roles of one installation while they run, and what is written down about them."""

import asyncio
import os
from collections.abc import Sequence
from typing import Any

from studio_runtime.settings import Home

from studio_cli.report import Report
from studio_cli.up import up_file
from studio_cli.up.keeper import Keeper
from studio_cli.up.leftovers import roster_of
from studio_cli.up.options import UpOptions
from studio_cli.up.roles import Role
from studio_cli.up.up_file import Outcome

# Before what a full disk refused is written again.
WRITE_AGAIN_SECONDS = 2.0


class Supervisor:
    """Keeps ``roles`` running, the roster true, and, once published, ``up.json`` true."""

    def __init__(self, home: Home, options: UpOptions, roles: Sequence[Role], report: Report) -> None:
        self.keepers = [Keeper(role, report, self._changed) for role in roles]
        self.roster = roster_of(home)
        self._home = home
        self._options = options
        self._report = report
        self._published: Outcome | None = None
        self._unwritten = asyncio.Event()
        # Two roles may change at once, and the file must end up with the later state.
        self._writing = asyncio.Lock()

    async def start(self, keeper: Keeper, group: asyncio.TaskGroup) -> None:
        """Start one role and wait until it is ready; ``group`` keeps it running."""
        group.create_task(keeper.run(), name=keeper.role.name)
        await keeper.ready.wait()

    async def publish(self, outcome: Outcome) -> None:
        """Write ``up.json``, and keep it true from now on; the roles are no longer given up."""
        for keeper in self.keepers:
            keeper.starting_up = False
        self._published = outcome
        await self._changed()

    async def keep_written(self) -> None:
        """Write again, until cancelled, what could not be written: a full disk ends nothing that runs."""
        while True:
            await self._unwritten.wait()
            await asyncio.sleep(WRITE_AGAIN_SECONDS)
            await self._changed()

    def withdraw(self) -> None:
        """Remove what tells others that the system runs."""
        self._published = None
        self._home.up_file.unlink(missing_ok=True)
        for keeper in self.keepers:
            keeper.role.readiness.clear()

    def document(self, outcome: Outcome) -> dict[str, Any]:
        """What ``up.json`` says now."""
        running = {keeper.role.name: keeper for keeper in self.keepers if keeper.child is not None}
        return up_file.content(
            outcome,
            gateway=str(self._options.gateway),
            coordinator=str(self._options.coordinator),
            pids={name: keeper.child.pid for name, keeper in running.items() if keeper.child is not None},
            metrics={
                name: str(keeper.facts["metrics"]) for name, keeper in running.items() if "metrics" in keeper.facts
            },
            supervisor=os.getpid(),
        )

    async def _changed(self) -> None:
        async with self._writing:
            try:
                await self._write()
            except OSError as error:
                if not self._unwritten.is_set():
                    self._report.warning(f"what runs cannot be written down: {error}; tried again until it can")
                self._unwritten.set()
            else:
                self._unwritten.clear()

    async def _write(self) -> None:
        identities = {
            keeper.role.name: keeper.child.identity
            for keeper in self.keepers
            if keeper.child is not None and keeper.child.identity is not None
        }
        await asyncio.to_thread(self.roster.write, identities)
        if self._published is not None:
            await asyncio.to_thread(up_file.write, self._home.up_file, self.document(self._published))
