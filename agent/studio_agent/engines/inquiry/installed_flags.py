"""The installed engine's own list of flags: asked of its program once, then kept as a file beside the environments.

Asking an engine in Python means importing it, which takes seconds; so it is asked only for a recipe that has `extra_args`, and
again when its program changed.
"""

import asyncio
import contextlib
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

import structlog
from studio_runtime.process import write_atomically

from studio_agent.engines.flag_list import FlagList, from_llamacpp_help
from studio_agent.engines.inquiry.list_flags import MARK

SCRIPT = Path(__file__).with_name("list_flags.py")
# In a checkout of TabbyAPI: the model of its configuration file.
TABBYAPI_KEYS = "common/config_models.py"
ASK_SECONDS = 180.0
SHEBANG = re.compile(rb"#!\s*(/\S*python[\d.]*)\s*$", re.MULTILINE)
# It answers without a GPU, and must not take one from who uses it.
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}

log = structlog.get_logger()


async def flags_of(engine: str, program: Sequence[str], engines_dir: Path) -> FlagList | None:
    """What ``program`` takes; None where it does not say. Never raises for a program that misbehaves."""
    kept_at = await asyncio.to_thread(_place, engine, program, engines_dir)
    if kept_at is None:
        return None
    kept = await asyncio.to_thread(_kept, kept_at)
    if kept is not None:
        return kept
    argv = await asyncio.to_thread(_question, engine, program)
    found = None if argv is None else _answer(engine, await _output(argv))
    if found is None or not len(found):
        log.warning("engine_flags_unknown", engine=engine, program=program[0])
        return None
    try:
        await asyncio.to_thread(write_atomically, kept_at, json.dumps(found.encode()).encode())
    except OSError as error:
        log.warning("engine_flags_not_kept", path=str(kept_at), error=str(error))
    return found


async def kept_flags_of(engine: str, program: Sequence[str], engines_dir: Path) -> FlagList | None:
    """What ``program`` said when it was asked before; None where it was not, or has changed since. Answers at once."""
    kept_at = await asyncio.to_thread(_place, engine, program, engines_dir)
    return None if kept_at is None else await asyncio.to_thread(_kept, kept_at)


def _place(engine: str, program: Sequence[str], engines_dir: Path) -> Path | None:
    """The file for this program as it is now; None where there is no such program."""
    checkout = _checkout(engine, program)
    # TabbyAPI's keys change with its checkout; its interpreter stays the same.
    tells = Path(program[0]) if checkout is None else checkout / TABBYAPI_KEYS
    try:
        stat = tells.resolve().stat()
    except OSError:
        return None
    identity = json.dumps([*program, stat.st_mtime_ns, stat.st_size])
    return engines_dir / f"flags-{engine}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.json"


def _kept(path: Path) -> FlagList | None:
    try:
        return FlagList.decode(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _question(engine: str, program: Sequence[str]) -> list[str] | None:
    """The command that answers; None where the engine cannot be asked."""
    match engine:
        case "llamacpp":
            return [*program, "--help"]
        case "vllm" | "sglang":
            python = _python_of(Path(program[0]))
            return None if python is None else [python, "-I", str(SCRIPT), engine]
        case _:
            checkout = _checkout(engine, program)
            return None if checkout is None else [program[0], "-I", str(SCRIPT), engine, str(checkout)]


def _checkout(engine: str, program: Sequence[str]) -> Path | None:
    """The folder of TabbyAPI that ``program`` is the Python of, CHECKOUT/venv/bin/python; None for any other."""
    match engine, Path(program[0]).name, list(Path(program[0]).parents):
        case "tabbyapi", name, [_bin, _venv, checkout, *_] if name.startswith("python"):
            return checkout
        case _:
            return None


def _python_of(script: Path) -> str | None:
    """The interpreter of an installed console script: the one beside it, else the one in its first line."""
    beside = script.with_name("python")
    if beside.exists():
        return str(beside)
    try:
        with script.open("rb") as file:
            found = SHEBANG.match(file.readline(1000))
    except OSError:
        return None
    return None if found is None else found.group(1).decode()


def _answer(engine: str, output: str) -> FlagList | None:
    if engine == "llamacpp":
        return from_llamacpp_help(output)
    line = next((line for line in output.splitlines() if line.startswith(MARK)), None)
    try:
        return None if line is None else FlagList.decode(json.loads(line.removeprefix(MARK)))
    except (ValueError, KeyError, TypeError):
        return None


async def _output(argv: Sequence[str]) -> str:
    """What ``argv`` prints; "" where it fails or takes too long."""
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=ENVIRONMENT,
        )
    except OSError:
        return ""
    try:
        async with asyncio.timeout(ASK_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError:
        return ""
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return output.decode("utf-8", "replace") if process.returncode == 0 else ""
