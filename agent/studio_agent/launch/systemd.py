"""Engines as systemd units, one instance of a root-owned template for each start.

The agent has no privilege but this: a polkit rule lets it start, stop, kill and forget ``studio-engine@*.service``. What such a
unit runs is in its spec file; as whom, in which sandbox and with which limits is in the template, which the agent cannot change.
The instance is the engine's token, and no token is used twice, so a unit's name says which start of which replica it is.

The unit's cgroup holds the whole tree and an engine cannot leave it; there are no other marks, and none are needed. The end of
the main process is seen at once through a pidfd; systemd, its parent, then tells the exit code. Units that ended stay loaded
until ``release``, so the code is there to be read, also by the next agent.
"""

import asyncio
import contextlib
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import structlog
from studio_runtime.process import ProcessIdentity, boot_id, write_atomically

from studio_agent.launch import cgroup, pidfd, proc_scan, systemctl
from studio_agent.launch.base import FoundEngine, LaunchError
from studio_agent.launch.engine_spec import SPECS, EngineSpec, spec_path
from studio_agent.launch.sharing import EngineGroup
from studio_agent.plan.record import Engine

PREFIX, SUFFIX = "studio-engine@", ".service"
# Below the mount of the hierarchy: a dash in a slice's name makes it a child.
SLICE = Path("studio.slice/studio-engines.slice")
ENGINE_GROUP = "studio-engine"
SPEC_MODE = 0o640
NOT_SET_UP = (
    "Run the agent as studio-agent.service, and `systemd-tmpfiles --create vllm-studio-agent.conf` once before it."
)
# Since version 252 it is spelt --kill-whom; this is understood before and after.
MAIN = "--kill-who=main"
# systemd hears of an end a little after the kernel has told us.
EXIT_CODE_SECONDS = 5.0
EXIT_CODE_POLL_SECONDS = 0.02
# Never the start of a process: nothing has this identity.
NEVER = 0

log = structlog.get_logger()


class SystemdLauncher:
    """Starts engines as instances of ``studio-engine@.service``."""

    def __init__(self, host_id: str, group: EngineGroup) -> None:
        self._host_id = host_id
        self._group = group
        self._boot_id = boot_id()
        mount = next((path for path in cgroup.MOUNTS if (path / "cgroup.procs").exists()), None)
        self._slice = None if mount is None else mount / SLICE

    @classmethod
    def prepare(cls, host_id: str, cache: Path) -> "SystemdLauncher":
        """Let the engines' user at ``cache``. Raises LaunchError where this host is not set up for it."""
        group = EngineGroup.named(ENGINE_GROUP)
        try:
            group.may_work_in(cache)
        except OSError as error:
            raise LaunchError(f"cannot share {cache} with the engines: {error}", NOT_SET_UP) from error
        return cls(host_id, group)

    def cgroup_for(self, token: str) -> str:
        """The cgroup-v2 folder that systemd will make for the engine's unit."""
        return "" if self._slice is None else str(self._slice / unit_of(token))

    async def start(self, engine: Engine, argv: Sequence[str], env: dict[str, str]) -> Engine:
        """Write the spec, start the unit, and learn who its main process is. Raises LaunchError.

        A start that is cancelled leaves nothing behind.
        """
        starting = asyncio.ensure_future(self._start(engine, list(argv), env))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            await asyncio.wait((starting,))
            if starting.exception() is None:
                await self.kill(starting.result())
                await self.exited(starting.result())
                await self.release(starting.result())
            raise

    def is_running(self, engine: Engine) -> bool:
        """Whether the engine's main process, and not another process with its pid, runs."""
        identity = self._identity(engine)
        return identity is not None and identity.is_running()

    async def exited(self, engine: Engine) -> int | None:
        """Wait for the end of the engine's main process: its exit code (negative: a signal), None where systemd forgot it."""
        identity = self._identity(engine)
        if identity is None:
            return None
        await pidfd.ended(identity)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + EXIT_CODE_SECONDS
        while True:
            status = (await systemctl.show(unit_of(engine.token))).get(unit_of(engine.token))
            if status is None or not status.invocation_id or status.exec_main_pid != engine.pid:
                return None
            if status.exit_code is not None or loop.time() > deadline:
                return status.exit_code
            await asyncio.sleep(EXIT_CODE_POLL_SECONDS)

    async def terminate(self, engine: Engine) -> None:
        """Ask the engine's main process to stop (SIGTERM)."""
        await self._signal("SIGTERM", engine, MAIN)

    async def members(self, engine: Engine) -> list[ProcessIdentity]:
        """Every live process of the engine's unit."""
        return await asyncio.to_thread(cgroup.processes, self.cgroup_for(engine.token))

    async def abort(self, engine: Engine) -> None:
        """SIGABRT to the whole unit: Python processes write to the log where they stand, and end."""
        await self._signal("SIGABRT", engine)

    async def kill(self, engine: Engine) -> None:
        """Kill the whole unit (SIGKILL); returns before the processes are gone."""
        await self._signal("SIGKILL", engine)

    async def release(self, engine: Engine) -> None:
        """Have systemd forget the unit, and remove its spec."""
        await self._forget(engine.token)

    async def survey(self, known: Collection[str] = ()) -> list[FoundEngine]:
        """Every engine unit that has a live process. Systemd forgets the others, but for those of ``known`` that have ended.

        Only for an agent that begins: a start that is under way has a spec and no unit yet.
        """
        found = []
        for unit, status in (await systemctl.show(f"{PREFIX}*{SUFFIX}")).items():
            token = unit.removeprefix(PREFIX).removesuffix(SUFFIX)
            if await asyncio.to_thread(cgroup.processes, self.cgroup_for(token)):
                leader = ProcessIdentity.of(status.main_pid) if status.main_pid else None
                found.append(FoundEngine(token, leader, self.cgroup_for(token)))
            elif token not in known or status.exit_code is None:
                await self._forget(token)
        await asyncio.to_thread(remove_specs, SPECS, {engine.token for engine in found})
        return found

    def _identity(self, engine: Engine) -> ProcessIdentity | None:
        known = engine.pid and engine.boot_id == self._boot_id
        return ProcessIdentity(engine.pid, engine.start_ticks) if known else None

    async def _start(self, engine: Engine, argv: list[str], env: dict[str, str]) -> Engine:
        unit = unit_of(engine.token)
        try:
            await asyncio.to_thread(self._write_spec, engine, argv, env)
        except (OSError, ValueError) as error:
            raise LaunchError(f"cannot start {argv[0]}: {error}") from error
        answer = await systemctl.call("start", "--", unit)
        status = (await systemctl.show(unit)).get(unit)
        if answer.code or status is None or not status.exec_main_pid:
            await self._forget(engine.token)
            raise LaunchError(
                f"systemd did not start {unit}: {answer.problem or 'it has no main process'}",
                "`journalctl -u studio-engine@*` on that host tells more; `studio-agent doctor` checks unit and polkit rule.",
            )
        identity = ProcessIdentity.of(status.main_pid) if status.main_pid else None
        # A program that ended within these milliseconds is an engine that exited, and its code can still be asked for.
        return replace(engine, pid=status.exec_main_pid, start_ticks=identity.start_ticks if identity else NEVER)

    def _write_spec(self, engine: Engine, argv: list[str], env: dict[str, str]) -> None:
        log_path = Path(engine.log_path)
        log_path.touch(mode=0o600)
        self._group.may_append_to(log_path)
        marked = {**env, proc_scan.TOKEN_VARIABLE: engine.token, proc_scan.HOST_VARIABLE: self._host_id}
        spec = EngineSpec(argv, marked, engine.log_path)
        write_atomically(spec_path(engine.token, SPECS), spec.encode(), SPEC_MODE)

    async def _signal(self, signal: str, engine: Engine, *options: str) -> None:
        answer = await systemctl.call("kill", f"--signal={signal}", *options, "--", unit_of(engine.token))
        # One that has no process left has nothing to be signalled, and says so in words that differ between versions.
        if answer.code and await self.members(engine):
            log.warning("engine_not_signalled", unit=unit_of(engine.token), signal=signal, problem=answer.problem)

    async def _forget(self, token: str) -> None:
        """A unit that ended is "active (exited)" after a clean end and "failed" after another; each has its own verb."""
        await systemctl.call("stop", "--", unit_of(token))
        await systemctl.call("reset-failed", "--", unit_of(token))
        with contextlib.suppress(OSError, ValueError):
            await asyncio.to_thread(spec_path(token).unlink)


def remove_specs(folder: Path, running: Collection[str]) -> None:
    """Remove the specs of engines other than ``running``: an agent that was killed before a start has left its keys there."""
    for path in folder.glob("*.json"):
        if path.stem not in running:
            with contextlib.suppress(OSError):
                path.unlink()


def unit_of(token: str) -> str:
    """The unit of the engine with ``token``."""
    return f"{PREFIX}{token}{SUFFIX}"
