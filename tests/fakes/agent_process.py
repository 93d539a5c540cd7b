"""The real agent as a process, for tests that kill it."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from google.protobuf.duration_pb2 import Duration
from studio.v1.assignment_pb2 import AssignedReplica
from studio.v1.recipe_pb2 import DemoArgs, EngineArgs, EngineChoice, Recipe
from studio_agent.launch import EngineCgroups, ProcessLauncher
from studio_agent.launch.proc_scan import pids, token_of
from studio_agent.plan.record import Engine
from studio_runtime.process import ProcessIdentity, boot_id


class AgentProcess:
    """``async with AgentProcess(folder, address) as agent``: ended, with its engines, when the block is left."""

    def __init__(
        self, folder: Path, coordinator: str, *extra: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.state = folder / "agent"
        self._ready_file = folder / "ready.json"
        self._coordinator = coordinator
        self._extra = extra
        # Of the next start.
        self.environment = os.environ | dict(environment or {})
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.terminate()
        await self._kill_engines()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start it and wait until it supervises its host."""
        ready = self._ready_file
        ready.unlink(missing_ok=True)
        with (self.folder / "agent.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._argv("run", *self._run_arguments(ready)),
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=self.environment,
            )
        async with asyncio.timeout(30):
            while not ready.exists():
                assert self._process.returncode is None, self.output()
                await asyncio.sleep(0.02)
        assert self.ready()["pid"] == self.pid

    async def ended(self) -> int:
        """Wait until it ends by itself; its exit code."""
        assert self._process is not None
        async with asyncio.timeout(30):
            return await self._process.wait()

    def ready(self) -> dict[str, Any]:
        """What it said when it was ready."""
        said = json.loads(self._ready_file.read_text())
        assert isinstance(said, dict)
        return said

    async def kill(self) -> None:
        """End it as a crash would."""
        await self._end(signal.SIGKILL)

    async def terminate(self) -> int:
        """Ask it to end; returns its exit code."""
        return await self._end(signal.SIGTERM)

    async def command(self, *arguments: str) -> tuple[int, str]:
        """Run the program with other arguments; returns its exit code and what it printed."""
        process = await self.begin(*arguments)
        output, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode()

    async def begin(self, *arguments: str) -> asyncio.subprocess.Process:
        """Start the program with other arguments; its standard output has all that it says."""
        return await asyncio.create_subprocess_exec(
            *self._argv(*arguments), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )

    def engine_processes(self) -> list[int]:
        """Every live process of an engine that agents on this folder started."""
        host_id = (self.state / "host-id").read_text()
        return [pid for pid in pids() if token_of(pid, host_id) and ProcessIdentity.of(pid)]

    def run_arguments(self) -> list[str]:
        return ["run", *self._run_arguments(self.folder / "second.json")]

    def output(self) -> str:
        return (self.folder / "agent.log").read_text()

    def _run_arguments(self, ready: Path) -> list[str]:
        folders = ["--state-dir", str(self.state), "--engines-dir", str(self.folder / "engines")]
        folders += ["--model-root", str(self.folder)]
        return ["--coordinator", self._coordinator, *folders, "--ready-file", str(ready), *self._extra]

    def _argv(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "studio_agent", *arguments]

    async def _kill_engines(self) -> None:
        """The quick way; the careful way has tests of its own."""
        host_id = (self.state / "host-id").read_text()
        launcher = ProcessLauncher(host_id, EngineCgroups.prepare(host_id))
        async with asyncio.timeout(30):
            while found := await launcher.survey():
                for engine in found:
                    remains = Engine(engine.token, 0, boot_id(), "", cgroup=engine.cgroup)
                    await launcher.kill(remains)
                    await launcher.release(remains)
                await asyncio.sleep(0.02)

    async def _end(self, number: signal.Signals) -> int:
        process = self._process
        assert process is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
        async with asyncio.timeout(30):
            return await process.wait()


def a_demo_replica(replica_id: str = "demo-1", generation: int = 1, **demo: object) -> AssignedReplica:
    """A replica of the demo engine, with its misbehaviour."""
    return AssignedReplica(
        replica_id=replica_id,
        deployment=replica_id.rpartition("-")[0],
        generation=generation,
        recipe_name="demo",
        recipe_revision=1,
        recipe=Recipe(
            name="demo",
            engine=EngineChoice(name="demo"),
            args=EngineArgs(demo=DemoArgs(**demo)),  # type: ignore[arg-type] - the fields are the test's to name
        ),
        model_names=["demo"],
        drain_deadline=Duration(seconds=10),
        stop_grace=Duration(seconds=5),
    )
