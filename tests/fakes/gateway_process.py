"""The real gateway as a process of its own, and a coordinator that can be killed."""

import asyncio
import contextlib
import json
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from fakes import route_service
from studio.v1.route_pb2 import AccessTable, RouteTable


async def until(condition: Any, seconds: float = 30) -> None:
    """Wait for ``condition()`` to be true."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


@dataclass
class GatewayProcess:
    """``python -m studio_gateway``, ready."""

    process: asyncio.subprocess.Process
    url: str
    metrics_url: str

    @classmethod
    async def start(cls, python: Path, folder: Path, coordinator_port: int, *arguments: str) -> Self:
        ready = folder / "gateway-ready.json"
        ready.unlink(missing_ok=True)
        argv = [str(python), "-m", "studio_gateway", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"]
        argv += ["--coordinator", f"127.0.0.1:{coordinator_port}", "--state-dir", str(folder / "gateway")]
        argv += ["--ready-file", str(ready), *arguments]
        with (folder / "gateway.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(*argv, stderr=log, start_new_session=True)
        await until(lambda: ready.exists() or process.returncode is not None)
        document = json.loads(ready.read_text())
        return cls(process, f"http://{document['address']}", f"http://{document['metrics']}/metrics")

    async def terminate(self) -> int:
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), 30)

    async def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    def memory_mib(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024


@dataclass
class CoordinatorProcess:
    """The fake coordinator as a process; its usage is read from a file."""

    process: asyncio.subprocess.Process
    usage_file: Path

    @classmethod
    async def start(cls, folder: Path, port: int, routes: RouteTable, access: AccessTable) -> Self:
        files = [folder / "routes.binpb", folder / "access.binpb", folder / "usage.jsonl"]
        files[0].write_bytes(routes.SerializeToString())
        files[1].write_bytes(access.SerializeToString())
        argv = [sys.executable, route_service.__file__, str(port), *map(str, files)]
        return cls(await asyncio.create_subprocess_exec(*argv), files[2])

    async def kill(self) -> None:
        """SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()

    def usage(self) -> list[dict[str, Any]]:
        if not self.usage_file.exists():
            return []
        return [json.loads(line) for line in self.usage_file.read_text().splitlines()]
