"""Whole answers as fast as they come: ``wrk`` where it is installed, else our own load generator."""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import uvloop
from load import run

UNIT_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


@dataclass(frozen=True)
class Rate:
    """What one run saw; ``p99_ms`` is the time to the whole answer."""

    per_second: float
    answers: int
    failures: int
    p50_ms: float
    p99_ms: float


def ask_as_fast_as_possible(port: int, request: bytes, connections: int, seconds: int, folder: Path) -> Rate:
    """Keep ``connections`` busy with ``request`` for ``seconds``, from this process's cores."""
    program = shutil.which("wrk")
    if program is None:
        outcome = uvloop.run(run(port, request, connections, seconds))
        p50, p99 = (outcome.percentile(outcome.latencies, share) for share in (0.5, 0.99))
        return Rate(outcome.rate, outcome.answers, outcome.failures, p50, p99)
    script = folder / "request.lua"
    head, _, body = request.decode("ascii").partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    fields = [line.partition(": ") for line in lines if not line.startswith("Content-Length")]
    text = [f'wrk.method, wrk.path = "POST", "{first.split(" ")[1]}"', f"wrk.body = [==[{body}]==]"]
    text += [f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, _, value in fields]
    script.write_text("\n".join(text))
    argv = [
        program,
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        "--latency",
        "-s",
        str(script),
        f"http://127.0.0.1:{port}",
    ]
    said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    return Rate(
        per_second=_number(said, r"Requests/sec:\s+([\d.]+)"),
        answers=int(_number(said, r"(\d+) requests in")),
        failures=int(_number(said, r"Non-2xx or 3xx responses: (\d+)"))
        + sum(map(int, re.findall(r"(?:connect|read|write|timeout) (\d+)", said))),
        p50_ms=_milliseconds(said, "50%"),
        p99_ms=_milliseconds(said, "99%"),
    )


def _number(said: str, pattern: str) -> float:
    found = re.search(pattern, said)
    return float(found.group(1)) if found else 0.0


def _milliseconds(said: str, share: str) -> float:
    found = re.search(rf"{share}\s+([\d.]+)(us|ms|s)", said)
    return float(found.group(1)) * UNIT_MS[found.group(2)] if found else 0.0
