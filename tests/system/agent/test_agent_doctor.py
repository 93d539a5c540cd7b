"""``studio-agent doctor`` on this machine: each line is right, and says what to do."""

import asyncio
import json
import os
import socket
import sys
from pathlib import Path

from fakes.coordinator import FakeCoordinator


async def doctor(folder: Path, coordinator: str, *options: str) -> tuple[int, dict[str, str], str]:
    """Its exit code, its lines by name with sign and clause, and all it printed."""
    argv = [sys.executable, "-m", "studio_agent", "doctor", "--coordinator", coordinator, "--state-dir", str(folder)]
    process = await asyncio.create_subprocess_exec(
        *argv, "--engines-dir", str(folder / "engines"), *options, stdout=-1, stderr=asyncio.subprocess.STDOUT
    )
    printed = (await process.communicate())[0].decode()
    lines = {}
    for line in printed.splitlines():
        sign, name, clause = line[:1], line[2:16].strip(), line[16:].strip()
        if sign in "✓!✗":
            lines[name] = f"{sign} {clause}"
    assert process.returncode is not None
    return process.returncode, lines, printed


async def test_a_host_that_lacks_nothing(tmp_path: Path, coordinator: FakeCoordinator) -> None:
    code, lines, printed = await doctor(tmp_path, coordinator.address)
    assert code == 0, printed
    names = ["state folder", "disk", "launcher", "gpus", "engines", "ports", "clock", "identity", "coordinator"]
    assert list(lines) == names, printed
    assert lines["identity"].startswith("! this host has not joined")
    assert lines["coordinator"] == f"✓ {coordinator.address} answers"
    assert lines["state folder"] == f"✓ {tmp_path}"
    assert await asyncio.to_thread(os.listdir, tmp_path) == [], "it changes nothing"


async def test_what_is_wrong_is_said_with_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, lines, printed = await doctor(tmp_path / "new", f"127.0.0.1:{port}", "--engine-ports", f"{port}-{port}")
    assert code == 1
    assert lines["state folder"].endswith("will be made")
    assert lines["ports"] == f"✗ every port from {port} to {port} is taken on 127.0.0.1"
    assert "→ Give the agent a wider range" in printed
    assert lines["coordinator"] == f"✗ 127.0.0.1:{port} does not answer", "a listener is not a coordinator"


async def test_an_address_that_is_not_this_hosts(tmp_path: Path, coordinator: FakeCoordinator) -> None:
    code, lines, _ = await doctor(tmp_path, coordinator.address, "--engine-address", "203.0.113.7")
    assert code == 1
    assert lines["ports"].startswith("✗ engines cannot listen on 203.0.113.7")


async def test_the_systemd_launcher_where_nothing_is_set_up_for_it(
    tmp_path: Path, coordinator: FakeCoordinator
) -> None:
    code, lines, printed = await doctor(tmp_path, coordinator.address, "--launcher", "systemd")
    assert code == 1
    assert lines["launcher"].startswith("✗"), printed


async def test_the_same_as_json_with_an_environment_whose_interpreter_is_gone(
    tmp_path: Path, coordinator: FakeCoordinator
) -> None:
    programs = tmp_path / "engines" / "vllm-1.0" / "bin"
    programs.mkdir(parents=True)
    (programs / "vllm").symlink_to(sys.executable)
    (programs / "python").symlink_to(tmp_path / "an-interpreter-that-was-upgraded")
    marker = {"engine": "vllm", "version": "1.0", "program": "bin/vllm"}
    (programs.parent / "studio-environment.json").write_text(json.dumps(marker))
    code, _, printed = await doctor(tmp_path, coordinator.address, "-o", "json")
    found = {row["check"]: row for row in json.loads(printed)}
    assert code == 1
    assert found["engines"]["verdict"] == "bad"
    assert "vllm 1.0: its interpreter does not run" in found["engines"]["seen"]
    assert "studio engines remove" in found["engines"]["advice"]
    assert found["coordinator"]["verdict"] == "ok"

    (programs / "python").unlink()
    (programs / "python").symlink_to(sys.executable)
    code, lines, _ = await doctor(tmp_path, coordinator.address)
    assert (code, lines["engines"]) == (0, "✓ vllm 1.0")
