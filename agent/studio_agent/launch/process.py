"""Engines as processes of their own session that outlive the agent.

The agent is the parent of the engines it started, and learns their exit code; of an engine that it adopted it only sees that it
is gone. Either way it learns so at once, through a pidfd.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from studio_runtime.process import ProcessIdentity, boot_id

from studio_agent.launch import cgroup, pidfd, proc_scan
from studio_agent.launch.base import FoundEngine, LaunchError
from studio_agent.plan.record import Engine

ENTER = Path(__file__).with_name("enter.py")


class ProcessLauncher:
    """Starts engines below this host's cgroup folder, each in a session of its own."""

    def __init__(self, host_id: str, cgroups: cgroup.EngineCgroups) -> None:
        self._host_id = host_id
        self._cgroups = cgroups
        self._boot_id = boot_id()
        # An exit code can be asked for once, by the parent.
        self._children: dict[ProcessIdentity, subprocess.Popen[bytes]] = {}

    def cgroup_for(self, token: str) -> str:
        """The cgroup-v2 folder that an engine with ``token`` will have; "" where there are none."""
        return self._cgroups.path_for(token)

    async def start(self, engine: Engine, argv: Sequence[str], env: dict[str, str]) -> Engine:
        """Start ``argv`` with standard input closed and its output appended to the engine's log file. Raises LaunchError.

        A start that is cancelled leaves nothing behind.
        """
        starting = asyncio.ensure_future(asyncio.to_thread(self._start, engine, list(argv), env))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            await asyncio.wait((starting,))
            if starting.exception() is None:
                await self.kill(starting.result())
                await self.exited(starting.result())
            raise

    def is_running(self, engine: Engine) -> bool:
        """Whether the engine's leader, and not another process with its pid, runs."""
        identity = self._identity(engine)
        return identity is not None and identity.is_running()

    async def exited(self, engine: Engine) -> int | None:
        """Wait for the end of the engine's leader: its exit code (negative: a signal), None where it cannot be known."""
        identity = self._identity(engine)
        if identity is None:
            return None
        await pidfd.ended(identity)
        child = self._children.pop(identity, None)
        return None if child is None else child.wait()

    async def terminate(self, engine: Engine) -> None:
        """Ask the engine's leader to stop (SIGTERM)."""
        if (identity := self._identity(engine)) is not None:
            pidfd.send(identity, signal.SIGTERM)

    async def members(self, engine: Engine) -> list[ProcessIdentity]:
        """Every live process of the engine's tree, by cgroup, session and token."""
        return await asyncio.to_thread(self._members, engine)

    async def abort(self, engine: Engine) -> None:
        """SIGABRT to the whole tree: Python processes write to the log where they stand, and end."""
        for identity in await self.members(engine):
            pidfd.send(identity, signal.SIGABRT)

    async def kill(self, engine: Engine) -> None:
        """Kill the whole tree (SIGKILL); returns before the processes are gone."""
        await asyncio.to_thread(self._kill, engine)

    async def release(self, engine: Engine) -> None:
        """Remove the engine's cgroup folder."""
        await asyncio.to_thread(cgroup.remove, engine.cgroup)

    async def survey(self, known: Collection[str] = ()) -> list[FoundEngine]:  # noqa: ARG002 - no exit code outlasts the agent
        """Every engine of this host that has a live process, by cgroup and token."""
        return await asyncio.to_thread(self._survey)

    def _identity(self, engine: Engine) -> ProcessIdentity | None:
        known = engine.pid and engine.boot_id == self._boot_id
        return ProcessIdentity(engine.pid, engine.start_ticks) if known else None

    def _start(self, engine: Engine, argv: list[str], env: dict[str, str]) -> Engine:
        marked = {**env, proc_scan.TOKEN_VARIABLE: engine.token, proc_scan.HOST_VARIABLE: self._host_id}
        log = None
        try:
            cgroup.create(engine.cgroup)
            log = os.open(engine.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            child = subprocess.Popen(
                [sys.executable, "-I", "-S", str(ENTER), engine.cgroup, *argv],
                env=marked,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=Path(engine.log_path).parent,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            cgroup.remove(engine.cgroup)
            raise LaunchError(f"cannot start {argv[0]}: {error}") from error
        finally:
            if log is not None:
                os.close(log)
        identity = ProcessIdentity.of(child.pid)
        if identity is None:
            raise LaunchError(f"{argv[0]} ended with code {child.wait()} before it could be identified")
        self._children[identity] = child
        return replace(engine, pid=identity.pid, start_ticks=identity.start_ticks)

    def _members(self, engine: Engine) -> list[ProcessIdentity]:
        found = {*cgroup.processes(engine.cgroup), *proc_scan.token_members(engine.token, self._host_id)}
        if (leader := self._identity(engine)) is not None:
            found.update(proc_scan.session_members(leader))
        return sorted(found, key=lambda identity: identity.start_ticks)

    def _kill(self, engine: Engine) -> None:
        cgroup.kill(engine.cgroup)
        for identity in self._members(engine):
            pidfd.send(identity, signal.SIGKILL)

    def _survey(self) -> list[FoundEngine]:
        trees: dict[str, list[ProcessIdentity]] = {
            token: cgroup.processes(self._cgroups.path_for(token)) for token in self._cgroups.tokens()
        }
        for pid in proc_scan.pids():
            token = proc_scan.token_of(pid, self._host_id)
            identity = ProcessIdentity.of(pid) if token else None
            if identity is not None:
                trees.setdefault(token, []).append(identity)
        for token, members in trees.items():
            if not members:
                # It ended while nobody watched, or it never ran.
                cgroup.remove(self._cgroups.path_for(token))
        return [
            FoundEngine(token, _leader(members), self._cgroups.path_for(token))
            for token, members in trees.items()
            if members
        ]


def _leader(members: list[ProcessIdentity]) -> ProcessIdentity | None:
    """The oldest of the processes that opened a session."""
    leaders = [identity for identity in members if proc_scan.session_of(identity.pid) == identity.pid]
    return min(leaders, key=lambda identity: identity.start_ticks, default=None)
