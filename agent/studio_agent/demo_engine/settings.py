"""The demo engine's command line: where it listens, how fast it is, and how it misbehaves."""

import argparse
from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """One field for each flag; seconds, bytes and tokens as their names say."""

    model: tuple[str, ...]
    host: str
    port: int
    nnodes: int
    node_rank: int
    master_addr: str
    master_port: int
    max_model_len: int
    max_num_seqs: int
    enable_lora: bool
    lora_modules: tuple[str, ...]
    load_seconds: float
    tokens_per_second: float
    prefill_seconds: float
    prefill_tokens_per_second: float
    hang_after_tokens: int | None
    die_after_tokens: int | None
    health_lie: str
    ignore_sigterm: bool
    leave_child: bool
    exit_code: int | None
    exit_after_seconds: float | None
    malformed_events: bool
    gpu_memory_bytes: int
    fail_line: str


def parse(argv: list[str] | None = None) -> Settings:
    """Read the command line; as argparse does, exits with code 2 and a sentence where it is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m studio_agent.demo_engine",
        description="A stand-in for an inference engine: speaks the OpenAI API, runs no model.",
        epilog="example: python -m studio_agent.demo_engine --model demo --port 8000 --tokens-per-second 20",
        allow_abbrev=False,
    )
    serve = parser.add_argument_group("serving")
    serve.add_argument("--model", nargs="+", required=True, metavar="NAME", help="the names it answers to")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    serve.add_argument("--port", type=int, default=8000, help="port to listen on (%(default)s)")
    serve.add_argument("--max-model-len", type=int, default=8192, help="prompt and answer together (%(default)s)")
    serve.add_argument("--max-num-seqs", type=int, default=256, help="requests at once; more wait (%(default)s)")
    serve.add_argument("--enable-lora", action="store_true", help="take and drop adapters while it serves")
    serve.add_argument("--lora-modules", nargs="+", default=(), metavar="NAME", help="adapters it has from the start")
    serve.add_argument("--load-seconds", type=float, default=0.0, help="from start to ready (%(default)s)")
    serve.add_argument("--tokens-per-second", type=float, default=0.0, help="of each answer; 0: as fast as it can")
    serve.add_argument("--prefill-seconds", type=float, default=0.0, help="before the first token (%(default)s)")
    serve.add_argument(
        "--prefill-tokens-per-second",
        type=float,
        default=0.0,
        help="of what the prefix cache does not hold, on top of --prefill-seconds; 0: at once",
    )
    group = parser.add_argument_group("several hosts")
    group.add_argument("--nnodes", type=int, default=1, help="processes that make up one engine (%(default)s)")
    group.add_argument("--node-rank", type=int, default=0, help="which of them this is; 0 answers (%(default)s)")
    group.add_argument("--master-addr", default="127.0.0.1", help="where rank 0 waits for the others (%(default)s)")
    group.add_argument("--master-port", type=int, default=29501, help="and on which port (%(default)s)")
    faults = parser.add_argument_group("misbehaviour")
    faults.add_argument("--hang-after-tokens", type=int, help="stop emitting, without an error, in every answer")
    faults.add_argument("--die-after-tokens", type=int, help="close the connection in the middle of every answer")
    faults.add_argument(
        "--health-lie",
        choices=("", "ok", "failing"),
        default="",
        help="ok: answer no completion (with --hang-after-tokens: from then on), yet be healthy; "
        "failing: answer completions, yet be unhealthy",
    )
    faults.add_argument("--ignore-sigterm", action="store_true", help="go on after SIGTERM")
    faults.add_argument("--leave-child", action="store_true", help="start a process in its own session that stays")
    faults.add_argument("--exit-code", type=int, help="exit with this code, see --exit-after-seconds and --fail-line")
    faults.add_argument("--exit-after-seconds", type=float, help="counted from the start of the process")
    faults.add_argument("--malformed-events", action="store_true", help="send one broken event in each stream")
    faults.add_argument("--gpu-memory-bytes", type=int, default=0, help="claim so much in $STUDIO_DEMO_GPU_MEMORY_DIR")
    faults.add_argument("--fail-line", default="", help="log this line while loading and exit with --exit-code (1)")
    fields = vars(parser.parse_args(argv))
    lists = {name: tuple(fields[name]) for name in ("model", "lora_modules")}
    return Settings(**{**fields, **lists})
