"""The command line of the agent."""

import argparse
import asyncio
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from studio_runtime.identity.options import JOIN_EXAMPLES, add_join_options
from studio_runtime.settings import DEFAULT_COORDINATOR_PORT, Address

if TYPE_CHECKING:
    from studio_agent.settings import AgentSettings

EXAMPLES = """\
examples:
  studio-agent run --coordinator 127.0.0.1:7070 --state-dir ~/.vllm-studio/agent --engines-dir ~/.vllm-studio/engines
  studio-agent run --coordinator control:7070 --state-dir /var/lib/studio --engines-dir /srv/engines --label pool=prod
  studio-agent run --coordinator control1:7070,control2:7070 --state-dir /var/lib/studio --engines-dir /srv/engines
  studio-agent doctor --coordinator control:7070 --state-dir /var/lib/studio --engines-dir /srv/engines
  studio-agent stop-engines --state-dir ~/.vllm-studio/agent --grace 5

SIGTERM ends the agent and leaves its engines running: the next agent on the same state folder takes them up again.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the agent; exits with 0 after SIGTERM, 1 when it could not work, 2 for wrong usage."""
    # The gRPC library must not run its fork hooks: engines are started by fork and exec.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    parsed = _parser().parse_args(arguments)
    if not sys.stderr.isatty():
        _leave_out("rich", "greenlet")
    # Imported late: `--help` and wrong usage need none of it, and gRPC reads its environment when it is imported.
    from studio_runtime.errors import StudioError  # noqa: PLC0415 - see above
    from studio_runtime.logging import configure_logging  # noqa: PLC0415 - see above

    configure_logging("agent", parsed.log_level)
    try:
        {"run": _run, "join": _join, "stop-engines": _stop_engines, "doctor": _doctor}[parsed.command](parsed)
    except StudioError as error:
        sys.exit(f"studio-agent: {error.message}\n{error.hint}".rstrip())


def _leave_out(*packages: str) -> None:
    """Refuse imports that structlog makes where it can, for colours and threads of a kind that an agent does not use: 5 MB."""
    for package in packages:
        sys.modules.setdefault(package, None)  # type: ignore[arg-type]  # None refuses an import


def _run(parsed: argparse.Namespace) -> None:
    from studio_runtime.process import run_until_stopped  # noqa: PLC0415 - see main

    from studio_agent.assembly import run  # noqa: PLC0415 - see main
    from studio_agent.settings import RunSettings  # noqa: PLC0415 - see main

    settings = _settings(parsed)
    running = RunSettings(parsed.coordinator, parsed.metrics, parsed.ready_file, parsed.token_file)
    run_until_stopped(lambda: run(settings, running))


def _doctor(parsed: argparse.Namespace) -> None:
    from studio_agent.doctor import examine  # noqa: PLC0415 - see main
    from studio_agent.doctor.finding import Verdict, as_json, render  # noqa: PLC0415 - see main

    findings = asyncio.run(examine(_settings(parsed), parsed.coordinator))
    sys.stdout.write((as_json if parsed.output == "json" else render)(findings))
    if any(finding.verdict is Verdict.BAD for _, finding in findings):
        sys.exit(1)


def _join(parsed: argparse.Namespace) -> None:
    from studio_agent.enrol import join  # noqa: PLC0415 - see main

    join(parsed)


def _settings(parsed: argparse.Namespace) -> "AgentSettings":
    from studio_agent.plan.health import HealthLimits  # noqa: PLC0415 - see main
    from studio_agent.settings import MODEL_ROOTS, AgentSettings, StateFolder  # noqa: PLC0415 - see main

    return AgentSettings(
        state=StateFolder(parsed.state_dir),
        engines_dir=parsed.engines_dir,
        models_dir=parsed.models_dir,
        model_roots=tuple(parsed.model_root) or MODEL_ROOTS,
        wheelhouse=parsed.wheelhouse,
        host_name=parsed.host_name,
        engine_address=parsed.engine_address,
        engine_ports=parsed.engine_ports,
        labels=dict(parsed.label),
        launcher=parsed.launcher,
        health=HealthLimits(hang_seconds=parsed.hang_seconds),
    )


def _stop_engines(parsed: argparse.Namespace) -> None:
    from studio_agent.assembly import stop_engines  # noqa: PLC0415 - see main
    from studio_agent.settings import AgentSettings, StateFolder  # noqa: PLC0415 - see main

    state = StateFolder(parsed.state_dir)
    settings = AgentSettings(
        state,
        engines_dir=state.root,
        host_name=socket.gethostname(),
        launcher=parsed.launcher,
        stop_grace_seconds=parsed.grace,
    )
    asyncio.run(stop_engines(settings))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="studio-agent",
        description="The agent of one host: starts engines that outlive it and supervises them.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="supervise this host until SIGTERM; engines stay")
    join = commands.add_parser(
        "join",
        help="get this host's identity from a coordinator, with a join token",
        epilog=JOIN_EXAMPLES.format(program="studio-agent", noun="hosts", state="/var/lib/studio"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_join_options(join, _folder)
    join.add_argument("--state-dir", type=_folder, required=True, help="the agent's own folder")
    join.add_argument("--host-name", default="", help="what people call this host (default: its host name)")
    join.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    stop = commands.add_parser("stop-engines", help="stop every engine that an agent on this state folder started")
    doctor = commands.add_parser("doctor", help="check what `run` with the same options needs, and say what to do")
    for command in (run, stop, doctor):
        command.add_argument("--state-dir", type=_folder, required=True, help="the agent's own folder")
        command.add_argument(
            "--launcher",
            default="process",
            choices=("process", "systemd"),
            help="what starts engines: this process, or systemd's studio-engine@.service (default: %(default)s)",
        )
        command.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    for command in (run, doctor):
        _add_run_options(command)
    doctor.set_defaults(log_level="error")
    doctor.add_argument("-o", "--output", default="text", choices=("text", "json"), help="(default: %(default)s)")
    stop.add_argument("--grace", type=_seconds, metavar="SECONDS", help="from SIGTERM to SIGKILL; default: as assigned")
    return parser


def _add_run_options(run: argparse.ArgumentParser) -> None:
    run.add_argument(
        "--coordinator", type=_addresses, required=True, metavar="HOST:PORT[,…]", help="one or more; one of them leads"
    )
    run.add_argument(
        "--token-file",
        type=_folder,
        metavar="FILE",
        help="a token to call the coordinator with, where it asks for one on loopback: its local-token",
    )
    run.add_argument("--engines-dir", type=_folder, required=True, help="where engine environments are installed")
    run.add_argument(
        "--models-dir", type=_folder, help="where model files are kept (default: models, beside the engines)"
    )
    run.add_argument(
        "--model-root",
        type=_folder,
        action="append",
        default=[],
        metavar="DIR",
        help="a directory that recipes may name models in by path://, with all below it; may be repeated"
        " (default: /var/lib/studio/models and /srv/models; always: the models directory)",
    )
    run.add_argument(
        "--wheelhouse", type=_folder, metavar="DIR", help="install engines from the wheels there, without network"
    )
    run.add_argument("--host-name", default=socket.gethostname(), help="what people call this host")
    run.add_argument("--engine-address", default="127.0.0.1", help="where engines listen (default: %(default)s)")
    run.add_argument("--engine-ports", type=_ports, default="20000-29999", metavar="FIRST-LAST")
    run.add_argument(
        "--hang-seconds",
        type=_seconds,
        default=60.0,
        metavar="SECONDS",
        help="how long requests may wait in an engine without a token before it is suspected (default: %(default)g)",
    )
    run.add_argument("--label", type=_label, action="append", default=[], metavar="KEY=VALUE", help="may be repeated")
    run.add_argument(
        "--metrics", type=_address, metavar="HOST:PORT", help="serve Prometheus metrics there; port 0: a free one"
    )
    run.add_argument("--ready-file", type=Path, help="written (JSON) once the agent supervises this host")


def _folder(text: str) -> Path:
    return Path(text).expanduser().resolve()


def _addresses(text: str) -> list[Address]:
    addresses = [_address(part.strip()) for part in text.split(",") if part.strip()]
    if not addresses:
        raise argparse.ArgumentTypeError("it has to name at least one coordinator")
    return addresses


def _address(text: str) -> Address:
    try:
        return Address.parse(text, DEFAULT_COORDINATOR_PORT)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _ports(text: str) -> object:
    from studio_agent.settings import PortRange  # noqa: PLC0415 - see main

    try:
        return PortRange.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not a label: expected KEY=VALUE")
    return key, value


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 86_400:  # noqa: PLR2004 - a day
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


if __name__ == "__main__":
    main()
