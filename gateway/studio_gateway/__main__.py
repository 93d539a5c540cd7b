"""``studio-gateway``: start the gateway of a fleet.

Ready as soon as it listens: routes and keys come from the coordinator's stream, and until then from the last good copy on disk.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from studio_runtime.identity.options import JOIN_EXAMPLES, add_join_options
from studio_runtime.settings import DEFAULT_COORDINATOR_PORT, DEFAULT_GATEWAY_PORT, Address, Home

from studio_gateway.options_file import OPTION, OptionsFile

# structlog imports the first to draw tracebacks and OpenTelemetry the second to describe a process, both only where they are
# installed; the gateway has no use for either, and they take 4 MiB.
NOT_NEEDED = ("rich", "psutil")

MOST_WORKERS = 256

EXAMPLES = """examples:
  studio-gateway --coordinator 10.0.0.2:7070
  studio-gateway --listen 0.0.0.0:4000 --coordinator 10.0.0.2:7070,10.0.0.3:7070 --state-dir /var/lib/studio/gateway
  studio-gateway --workers 4 --metrics 127.0.0.1:9400
  studio-gateway --workers 1 --options-file /etc/vllm-studio/gateway.options      (read again on SIGHUP)
  studio-gateway join --coordinator control:7072 --fingerprint 3f9a… --token-file /run/join-token
  studio-gateway --litellm process --litellm-config /etc/studio/litellm.yaml
  studio-gateway --litellm off --metrics 127.0.0.1:9400
"""


def main() -> None:
    """Read the command line and run the gateway until SIGTERM."""
    if sys.argv[1:2] == ["join"]:
        from studio_gateway.enrol import join  # noqa: PLC0415 - serving needs none of it

        join(_join_parser().parse_args(sys.argv[2:]))
        return
    arguments = _parser().parse_args()
    if arguments.check:
        return
    if arguments.workers is not None:
        from studio_gateway.workers import supervise  # noqa: PLC0415 - needs nothing of what serving needs

        supervise(lambda: _parser().parse_args())
        return
    with _as_if_missing(NOT_NEEDED):
        from studio_gateway.daemon import Settings, run  # noqa: PLC0415 - after the line above, and not for --help

    run(
        Settings(
            listen=arguments.listen,
            listen_fd=arguments.listen_fd,
            parent=arguments.parent,
            coordinators=arguments.coordinator,
            state_dir=arguments.state_dir,
            metrics=arguments.metrics,
            ready_file=arguments.ready_file,
            token_file=arguments.token_file,
            litellm=arguments.litellm,
            litellm_config=arguments.litellm_config,
            request_log=arguments.request_log,
            log_level=arguments.log_level,
        )
    )


@contextmanager
def _as_if_missing(packages: tuple[str, ...]) -> Iterator[None]:
    """Imports in this block find ``packages`` missing; later ones find them again."""
    absent = [name for name in packages if name not in sys.modules]
    # What the import system reads as "known to be missing"; the type of the table does not allow for it.
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="studio-gateway",
        description="The OpenAI-compatible front door of a fleet.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    home = Home.from_environment()
    add = parser.add_argument
    add(
        "--listen",
        type=_address(DEFAULT_GATEWAY_PORT),
        default=f"127.0.0.1:{DEFAULT_GATEWAY_PORT}",
        metavar="HOST:PORT",
        help=f"where clients connect (default: 127.0.0.1:{DEFAULT_GATEWAY_PORT}); port 0 takes a free one",
    )
    add(
        "--coordinator",
        type=_addresses,
        default=f"127.0.0.1:{DEFAULT_COORDINATOR_PORT}",
        metavar="HOST:PORT[,…]",
        help="one or more, tried in turn",
    )
    add(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="a token to call the coordinator with, where it asks for one on loopback: its local-token",
    )
    add("--state-dir", type=Path, default=home.gateway, metavar="DIR", help="last good tables, usage spool, identity")
    add(
        "--metrics",
        type=_address(0),
        metavar="HOST:PORT",
        help="serve Prometheus metrics there; port 0 takes a free one",
    )
    add("--ready-file", type=Path, metavar="FILE", help="written once requests are accepted")
    add(
        "--workers",
        type=_count,
        metavar="N",
        help="serve from N processes that share the address and are replaced one by one on SIGHUP, without a dropped"
        " stream; worker K serves metrics on PORT + K (default: serve from this process)",
    )
    add(
        OPTION,
        action=OptionsFile,
        metavar="FILE",
        help="more options, which count as if they stood here; with --workers, SIGHUP reads them again. None where it is missing",
    )
    add("--check", action="store_true", help="read the options, say what is wrong with them, and end")
    add("--listen-fd", type=int, help=argparse.SUPPRESS)
    add("--parent", type=int, help=argparse.SUPPRESS)
    add(
        "--litellm",
        choices=("in-process", "process", "off", "auto"),
        default="in-process",
        help="where LiteLLM runs, once a model needs it: in this process, or in one of its own, which"
        " keeps its work away from every other request (default: in-process, which auto means too)",
    )
    add(
        "--litellm-config",
        type=Path,
        metavar="FILE",
        help="LiteLLM's callbacks and settings: a YAML file with litellm_settings",
    )
    add(
        "--request-log",
        action="store_true",
        help="a line in the log for each request: who, which model, how it ended; never what was said",
    )
    add("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    return parser


def _join_parser() -> argparse.ArgumentParser:
    home = Home.from_environment()
    parser = argparse.ArgumentParser(
        prog="studio-gateway join",
        description="Get this gateway's identity from a coordinator, with a join token.",
        epilog=JOIN_EXAMPLES.format(program="studio-gateway", noun="gateways", state="/var/lib/studio/gateway"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_join_options(parser)
    parser.add_argument("--state-dir", type=Path, default=home.gateway, metavar="DIR", help="the gateway's own folder")
    parser.add_argument("--name", default="", help="what people call it (default: the host's name)")
    return parser


def _address(default_port: int) -> Callable[[str], Address]:
    def parse(text: str) -> Address:
        try:
            return Address.parse(text, default_port)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"it has to be a number from 1 to {MOST_WORKERS}")
    return int(text)


def _addresses(text: str) -> list[Address]:
    addresses = [_address(DEFAULT_COORDINATOR_PORT)(part.strip()) for part in text.split(",") if part.strip()]
    if not addresses:
        raise argparse.ArgumentTypeError("it has to name at least one coordinator")
    return addresses


if __name__ == "__main__":
    main()
