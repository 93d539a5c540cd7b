"""Where a process stands, read by a program that may be slow, broken or not there."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen

from studio_agent.supervise.stack_dump import KEPT_FILES, dump_stacks


@contextmanager
def a_process(*argv: str) -> Iterator[int]:
    with Popen(argv, stdin=PIPE, stdout=DEVNULL) as process:
        yield process.pid
        process.kill()


def a_python() -> AbstractContextManager[int]:
    return a_process(sys.executable, "-c", "input()")


def dumps(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("stacks-*")}


def a_reader(folder: Path, script: str) -> str:
    program = folder / "reader"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return str(program)


def text_of(path: Path | None) -> str:
    assert path is not None
    return path.read_text()


async def test_without_a_reader_the_note_says_so(tmp_path: Path) -> None:
    dump = await dump_stacks(None, [os.getpid()], tmp_path, "a")
    assert dump.path is None
    assert "py-spy is not installed" in dump.note


async def test_only_processes_that_run_python_are_read(tmp_path: Path) -> None:
    reader = a_reader(tmp_path, 'echo "asked: $*"')
    with a_python() as pid, a_process("/bin/sleep", "60") as other:
        dump = await dump_stacks(reader, [pid, other, 0], tmp_path, "a")
        nothing = await dump_stacks(reader, [other], tmp_path, "b")
    assert text_of(dump.path) == f"== process {pid}\nasked: dump --pid {pid}\n"
    assert nothing.path is None


async def test_a_process_that_is_stopped_already_is_not_paused(tmp_path: Path) -> None:
    reader = a_reader(tmp_path, 'echo "asked: $*"')
    with a_python() as pid:
        os.kill(pid, signal.SIGSTOP)
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":  # noqa: ASYNC240 - procfs answers at once
            await asyncio.sleep(0.01)
        dump = await dump_stacks(reader, [pid], tmp_path, "a")
    assert text_of(dump.path).endswith(f"asked: dump --pid {pid} --nonblocking\n")


async def test_a_reader_that_does_not_end_is_ended(tmp_path: Path) -> None:
    reader = a_reader(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 60")
    with a_python() as pid:
        dump = await dump_stacks(reader, [pid], tmp_path, "a", limit_seconds=1.0)
    assert "could not be read in time" in text_of(dump.path)
    assert not Path(f"/proc/{text_of(tmp_path / 'pid').strip()}").exists()  # noqa: ASYNC240 - procfs answers at once


async def test_a_reader_that_cannot_be_run_is_no_error(tmp_path: Path) -> None:
    with a_python() as pid:
        dump = await dump_stacks(str(tmp_path / "none"), [pid], tmp_path, "a")
    assert "No such file" in text_of(dump.path)


async def test_old_dumps_go(tmp_path: Path) -> None:
    reader = a_reader(tmp_path, "echo here")
    with a_python() as pid:
        for number in range(KEPT_FILES + 2):
            await dump_stacks(reader, [pid], tmp_path, str(number))
    assert len(dumps(tmp_path)) == KEPT_FILES
    assert f"stacks-{KEPT_FILES + 1}.txt" in dumps(tmp_path)
