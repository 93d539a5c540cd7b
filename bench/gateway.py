"""The gateway against no gateway and against its peers: ``python bench/gateway.py`` prints a table of ratios.

Each proxy runs alone on one core, one worker; the same engine and the load share the other. Rounds go through all of them, so
that what else the machine does hits all alike, and medians are reported; only ratios mean something. Ours has keys, limits,
accounting and metrics on. CPU time of a process is the figure that other load on the machine disturbs least. Nothing is asserted;
``bench/out/gateway.json`` has the figures.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import uvloop
from load import run
from peers import KEY, PEERS
from processes import cpu_seconds, free_port, on_core, resident_mib, running
from wrk import ask_as_fast_as_possible

HERE = Path(__file__).parent
EVENTS_PER_STREAM = 102
CONNECTIONS = 16
STREAMS = 64
# As many users come: not all in the same millisecond.
SPREAD_SECONDS = 2.0
DIRECT = "direct"


def a_request(words: str = "Say hello. ", **fields: Any) -> bytes:
    """A chat of about 700 bytes."""
    messages = [
        {"role": "system", "content": "You are helpful. " * 20},
        {"role": "user", "content": words * 10},
    ]
    body = json.dumps({"model": "tiny", "messages": messages, "max_tokens": 100} | fields).encode()
    head = ["POST /v1/chat/completions HTTP/1.1", "Host: localhost", f"Authorization: Bearer {KEY}"]
    head += ["Content-Type: application/json", f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(head).encode() + body


@dataclass
class Subject:
    """One way to the engine, and what was measured of it, a value for each round."""

    name: str
    port: int
    # None: there is no proxy.
    pid: int | None
    figures: dict[str, list[float]] = field(default_factory=dict)

    def note(self, **figures: float) -> None:
        """Keep one round's figures."""
        for name, value in figures.items():
            self.figures.setdefault(name, []).append(value)

    def median(self, name: str) -> float:
        """The middle one of the rounds, of failures the sum; 0 where nothing was measured."""
        values = self.figures.get(name)
        if not values:
            return 0.0
        return sum(values) if name == "failures" else median(values)

    def cpu(self) -> float:
        """CPU seconds of the proxy so far."""
        return cpu_seconds(self.pid) if self.pid is not None else 0.0


@contextmanager
def an_engine(core: int, folder: Path) -> Iterator[int]:
    """The stand-in engine; yields its port."""
    port = free_port()
    with running(on_core(core, [sys.executable, str(HERE / "upstream.py"), str(port)]), folder / "engine.log", port):
        yield port


def measure(subject: Subject, seconds: int, folder: Path) -> None:
    """One round of one subject."""
    before = subject.cpu()
    whole = ask_as_fast_as_possible(subject.port, a_request(), CONNECTIONS, seconds, folder)
    cpu = subject.cpu() - before
    subject.note(
        requests_per_second=whole.per_second,
        latency_p50_ms=whole.p50_ms,
        latency_p99_ms=whole.p99_ms,
        cpu_us_per_request=cpu / max(1, whole.answers) * 1e6,
        failures=whole.failures,
    )
    before = subject.cpu()
    paced = a_request("pace-20-ms ", stream=True)
    streams = uvloop.run(run(subject.port, paced, STREAMS, seconds, SPREAD_SECONDS))
    cpu = subject.cpu() - before
    subject.note(
        ttft_p50_ms=streams.percentile(streams.first_bytes, 0.5),
        ttft_p99_ms=streams.percentile(streams.first_bytes, 0.99),
        cpu_us_per_chunk=cpu / max(1, streams.answers * EVENTS_PER_STREAM) * 1e6,
        failures=streams.failures,
    )
    if subject.pid is not None:
        subject.note(rss_mb=resident_mib(subject.pid))


def ratios(subjects: dict[str, Subject]) -> dict[str, float]:
    """Ours against each of the others that was there."""
    ours, found = subjects["ours"], {}

    def ratio(name: str, figure: str) -> float:
        below = subjects[name].median(figure)
        return ours.median(figure) / below if below else 0.0

    for name in ("vllm-router", "sglang-router", "litellm", "nginx"):
        # What has failed was quicker than what has answered.
        if name in subjects and not subjects[name].median("failures"):
            short = name.replace("-", "_")
            found[f"rps_vs_{short}"] = ratio(name, "requests_per_second")
            found[f"cpu_per_request_vs_{short}"] = ratio(name, "cpu_us_per_request")
            found[f"cpu_per_chunk_vs_{short}"] = ratio(name, "cpu_us_per_chunk")
            found[f"ttft_p99_vs_{short}"] = ratio(name, "ttft_p99_ms")
    found["ttft_p99_vs_direct"] = ratio(DIRECT, "ttft_p99_ms")
    found["rss_mb"] = ours.median("rss_mb")
    return found


COLUMNS = {
    "requests_per_second": "req/s",
    "latency_p50_ms": "p50 ms",
    "latency_p99_ms": "p99 ms",
    "cpu_us_per_request": "µs/req",
    "ttft_p50_ms": "TTFT p50",
    "ttft_p99_ms": "TTFT p99",
    "cpu_us_per_chunk": "µs/chunk",
    "rss_mb": "MiB",
    "failures": "failures",
}


def table(subjects: dict[str, Subject]) -> str:
    """Medians, a line for each subject."""
    lines = [f"{'':14}" + "".join(f"{title:>10}" for title in COLUMNS.values())]
    for subject in subjects.values():
        values = "".join(f"{subject.median(figure):>10.2f}" for figure in COLUMNS)
        lines.append(f"{subject.name:14}{values}")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(description="Measure the gateway against its peers.")
    parser.add_argument("--seconds", type=int, default=4, help="for each kind of load in each round (default: 4)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: 3)")
    parser.add_argument("--only", default="", help="peers to measure, with commas; default: all that can be had")
    arguments = parser.parse_args()
    wanted = arguments.only.split(",") if arguments.only else list(PEERS)
    proxy_core, *others = sorted(os.sched_getaffinity(0))
    load_core = others[0] if others else proxy_core
    os.sched_setaffinity(0, {load_core})
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        engine_port = stack.enter_context(an_engine(load_core, folder))
        subjects = {DIRECT: Subject(DIRECT, engine_port, None)}
        missing = {peer: "left out by --only" for peer in PEERS if peer not in wanted}
        for peer in wanted:
            own = folder / peer
            own.mkdir()
            try:
                port, pid = stack.enter_context(PEERS[peer](proxy_core, engine_port, own))
            except (RuntimeError, OSError) as error:
                missing[peer] = str(error)
                print(f"{peer}: not measured: {error}")
                continue
            subjects[peer] = Subject(peer, port, pid)
        for _ in range(arguments.rounds):
            for subject in subjects.values():
                measure(subject, arguments.seconds, folder)
        for subject in subjects.values():
            if failures := subject.median("failures"):
                missing[subject.name] = f"{failures:.0f} of its answers failed: nothing is compared with it"
        if "ours" in missing:
            sys.exit(f"ours: {missing['ours']}")
        load = os.getloadavg()[0]
        figures = ratios(subjects) | {"load_average": load}
        print(table(subjects))
        print("\n".join(f"{figure:36} {value:8.2f}" for figure, value in figures.items()))
    medians = {key: {figure: one.median(figure) for figure in one.figures} for key, one in subjects.items()}
    out = HERE / "out" / "gateway.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps({**figures, "medians": medians, "not_measured": missing}, indent=2) + "\n")
    print(f"written to {out.relative_to(HERE.parent)}")


if __name__ == "__main__":
    main()
