import os
import subprocess
import sys

import psutil
import pytest
from studio_agent.gpu import host


def test_memory_is_what_others_say_it_is() -> None:
    total, available = host.memory_bytes()
    assert total == psutil.virtual_memory().total
    assert 0 < available < total


def test_a_program_is_named_by_its_whole_name() -> None:
    assert host.program_of(os.getpid()) == (psutil.Process().name(), psutil.Process().username())


def test_a_name_that_a_program_gave_itself_is_kept() -> None:
    rename = "import ctypes, sys; ctypes.CDLL(None).prctl(15, b'VLLM::EngineCore'); print('up', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", rename], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert host.program_of(process.pid)[0] == "VLLM::EngineCor"


def test_a_process_that_is_gone() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    with pytest.raises(OSError, match="No such file"):
        host.program_of(process.pid)
