"""Where an engine's Python processes stand, kept before a hung engine is killed: afterwards nobody can tell."""

import asyncio
import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from studio_runtime.process import write_atomically

LIMIT_SECONDS = 10.0
LARGEST_DUMP_BYTES = 1 << 20
KEPT_FILES = 5
PATTERN = "stacks-*.txt"
HIDDEN = "?"
NOT_ALLOWED = "its processes are another user's, and the agent may not read where they stand"


@dataclass(frozen=True)
class StackDump:
    """What came of it: the file, or why there is none."""

    path: Path | None
    note: str
    # Of how many processes it holds the stacks; of others it says why not.
    read: int = 0


def find_py_spy() -> str | None:
    """The program that reads stacks: on PATH, or beside the agent's own interpreter. It is optional."""
    return shutil.which("py-spy") or shutil.which("py-spy", path=str(Path(sys.executable).parent))


async def dump_stacks(
    program: str | None, pids: Iterable[int], folder: Path, name: str, limit_seconds: float = LIMIT_SECONDS
) -> StackDump:
    """Have py-spy (``program``) write the stacks of those of ``pids`` that run Python, within ``limit_seconds`` in all."""
    if program is None:
        return StackDump(None, "py-spy is not installed, so nobody knows where it stood")
    programs = {pid: await asyncio.to_thread(_program_of, pid) for pid in pids}
    python = [pid for pid, name in programs.items() if name.startswith("python")]
    if not python:
        hidden = HIDDEN in programs.values()
        return StackDump(None, NOT_ALLOWED if hidden else "none of its processes runs Python")
    deadline = asyncio.get_running_loop().time() + limit_seconds
    dumps = await asyncio.gather(*(_dump(program, pid, deadline) for pid in python))
    path = folder / f"stacks-{name}.txt"
    try:
        await asyncio.to_thread(_keep, path, b"\n".join(dump.text for dump in dumps))
    except OSError as error:
        return StackDump(None, f"its stacks could not be written: {error}")
    read = sum(dump.whole for dump in dumps)
    note = f"the stacks of {read} processes are in {path}" if read else f"no stacks could be read; {path} says why"
    return StackDump(path, note, read)


@dataclass(frozen=True)
class _Dump:
    """What came of one process."""

    text: bytes
    whole: bool = False


async def _dump(program: str, pid: int, deadline: float) -> _Dump:
    heading = f"== process {pid}\n".encode()
    # py-spy pauses what it reads, which it cannot where somebody else did.
    how = ["--nonblocking"] if await asyncio.to_thread(_is_stopped, pid) else []
    try:
        reader = await asyncio.create_subprocess_exec(
            *(program, "dump", "--pid", str(pid), *how),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except OSError as error:
        return _Dump(heading + f"{error}\n".encode())
    try:
        async with asyncio.timeout_at(deadline):
            output, _ = await reader.communicate()
        return _Dump(heading + output[:LARGEST_DUMP_BYTES], whole=reader.returncode == 0)
    except TimeoutError:
        return _Dump(heading + b"its stacks could not be read in time\n")
    finally:
        if reader.returncode is None:
            reader.kill()
            await reader.wait()


def _program_of(pid: int) -> str:
    """The file name of the program that ``pid`` runs; HIDDEN where this user may not know it, "" where it is gone."""
    try:
        return Path(os.readlink(f"/proc/{pid}/exe")).name  # noqa: PTH115 - a deleted program's link has a suffix
    except PermissionError:
        return HIDDEN
    except OSError:
        return ""


def _is_stopped(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] in {"T", "t"}


def _keep(path: Path, content: bytes) -> None:
    write_atomically(path, content)
    newest_first = sorted(path.parent.glob(PATTERN), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in newest_first[KEPT_FILES:]:
        file.unlink(missing_ok=True)
