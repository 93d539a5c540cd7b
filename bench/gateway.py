"""The gateway against no gateway: ``python bench/gateway.py`` prints a table of ratios and writes ``bench/out/gateway.json``.

The gateway runs alone on one core, with keys, accounting and tracing on, as an installation has them; engine and load share the
other. One run measures both, because only their ratio means something. Nothing is asserted.
"""

import argparse
import hmac
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop
from load import Outcome, run
from studio.v1.route_pb2 import AccessTable, ApiKey, Endpoint, Route, RouteTable

HERE = Path(__file__).parent
KEY = "sk-benchmark000-" + "x" * 43
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
EVENTS_PER_STREAM = 102


def _request(**fields: Any) -> bytes:
    messages = [
        {"role": "system", "content": "You are helpful. " * 20},
        {"role": "user", "content": "Say hello. " * 10},
    ]
    body = json.dumps({"model": "tiny", "messages": messages, "max_tokens": 100} | fields).encode()
    head = [
        "POST /v1/chat/completions HTTP/1.1",
        "Host: localhost",
        f"Authorization: Bearer {KEY}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "",
        "",
    ]
    return "\r\n".join(head).encode() + body


def _on(core: int) -> list[str]:
    """Python, on one core."""
    taskset = shutil.which("taskset")
    if taskset is None:
        raise RuntimeError("this benchmark pins processes with taskset, of util-linux")
    return [taskset, "-c", str(core), sys.executable]


@contextmanager
def _engine(core: int) -> Iterator[int]:
    process = subprocess.Popen([*_on(core), str(HERE / "upstream.py")], stdout=subprocess.PIPE)
    if process.stdout is None:
        raise RuntimeError("the engine has no output")
    with process:
        yield int(process.stdout.readline())
        process.kill()


@contextmanager
def _gateway(core: int, engine_port: int) -> Iterator[tuple[int, int]]:
    """Start the gateway from a last good copy, without any coordinator; yields its port and process id."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        endpoint = Endpoint(replica_id="tiny-0", base_url=f"http://127.0.0.1:{engine_port}", weight=1)
        routes = RouteTable(version=1, term=1, routes=[Route(model="tiny", endpoints=[endpoint])])
        key = ApiKey(id="benchmark000", hash=hmac.digest(b"pepper", KEY.encode(), "sha256"))
        access = AccessTable(version=1, pepper=b"pepper", keys=[key])
        (folder / "last-good-routes.binpb").write_bytes(routes.SerializeToString())
        (folder / "last-good-access.binpb").write_bytes(access.SerializeToString())
        argv = [*_on(core), "-m", "studio_gateway", "--listen", "127.0.0.1:0"]
        argv += [
            "--coordinator",
            "127.0.0.1:1",
            "--state-dir",
            name,
            "--ready-file",
            f"{name}/ready",
            "--log-level",
            "error",
        ]
        process = subprocess.Popen(argv)
        try:
            ready = folder / "ready"
            while not ready.exists():
                if process.poll() is not None:
                    raise RuntimeError("the gateway did not start")
            yield int(json.loads(ready.read_text())["address"].rpartition(":")[2]), process.pid
        finally:
            process.terminate()
            process.wait()


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def _resident_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0]) / 1024


def _row(name: str, direct: Outcome, ours: Outcome, cpu_us: float, unit: str) -> dict[str, Any]:
    def both(values: str, share: float) -> tuple[float, float]:
        return direct.percentile(getattr(direct, values), share), ours.percentile(getattr(ours, values), share)

    print(f"{name}: {direct.answers + ours.answers} answers, {direct.failures + ours.failures} failures")
    print(
        f"  per second             direct {direct.rate:10.0f}   gateway {ours.rate:10.0f}   ratio {ours.rate / direct.rate:.2f}"
    )
    for label, values, share in (("first byte p50", "first_bytes", 0.5), ("first byte p99", "first_bytes", 0.99)):
        there, here = both(values, share)
        print(f"  {label:<14} ms      direct {there:10.2f}   gateway {here:10.2f}   ratio {here / there:.2f}")
    print(f"  gateway's CPU          {cpu_us:.0f} µs per {unit}")
    there, here = both("first_bytes", 0.99)
    return {
        "direct_per_second": direct.rate,
        "gateway_per_second": ours.rate,
        "ttft_p99_vs_direct": here / there,
        f"cpu_us_per_{unit}": cpu_us,
        "failures": direct.failures + ours.failures,
    }


@dataclass(frozen=True)
class Load:
    """One kind of load; ``unit`` is what the gateway's CPU time is divided by."""

    name: str
    request: bytes
    connections: int
    unit: str
    spread_seconds: float = 0.0


LOADS = {
    "plain": Load("one answer, 16 connections", _request(), 16, "request"),
    "streams": Load("streams at full speed, 16", _request(stream=True), 16, "chunk"),
    # As many users come: not all in the same millisecond.
    "paced": Load("streams of 50 tokens/s, 64", _request(stream=True, pace_ms=20), 64, "chunk", spread_seconds=2.0),
}


async def _compare(load: Load, engine_port: int, gateway_port: int, pid: int, seconds: float) -> dict[str, Any]:
    direct = await run(engine_port, load.request, load.connections, seconds, load.spread_seconds)
    before = _cpu_seconds(pid)
    ours = await run(gateway_port, load.request, load.connections, seconds, load.spread_seconds)
    units = ours.answers * (1 if load.unit == "request" else EVENTS_PER_STREAM)
    return _row(load.name, direct, ours, (_cpu_seconds(pid) - before) / units * 1e6, load.unit)


async def _measure(seconds: float, engine_port: int, gateway_port: int, pid: int) -> dict[str, Any]:
    await run(gateway_port, _request(), 4, 1)
    figures: dict[str, Any] = {
        name: await _compare(load, engine_port, gateway_port, pid, seconds) for name, load in LOADS.items()
    }
    figures["rss_mb"] = _resident_mib(pid)
    print(f"gateway's memory after all that: {figures['rss_mb']:.0f} MiB")
    return figures


def main() -> None:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(description="Measure what the gateway adds to a request.")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each of the six runs (default: 5)")
    seconds = parser.parse_args().seconds
    gateway_core, *others = sorted(os.sched_getaffinity(0))
    load_core = others[0] if others else gateway_core
    os.sched_setaffinity(0, {load_core})
    with _engine(load_core) as engine_port, _gateway(gateway_core, engine_port) as (gateway_port, pid):
        figures = uvloop.run(_measure(seconds, engine_port, gateway_port, pid))
    out = HERE / "out" / "gateway.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(figures, indent=2) + "\n")
    print(f"written to {out.relative_to(HERE.parent)}")


if __name__ == "__main__":
    main()
