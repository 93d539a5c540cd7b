"""What is checked before anything is started, so that nothing has to be undone."""

import errno
import re
import shutil
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
from studio_runtime.errors import InvalidError, StudioError
from studio_runtime.settings import Address

from studio_cli.up.options import UpOptions

KNOWN_ENGINES = ("demo", "vllm", "sglang", "tabbyapi", "llamacpp")

# As the coordinator has it; asked here so that nothing has to be started to find out.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class PortTakenError(StudioError):
    """Another process has a port that is needed."""

    reason = "port_taken"


def check_options(options: UpOptions) -> None:
    """Whether the options fit together and what they name is there. Raises InvalidError or StudioError."""
    if options.engine and options.engine not in KNOWN_ENGINES:
        raise InvalidError(f"there is no engine {options.engine!r}", f"Engines: {', '.join(KNOWN_ENGINES)}.")
    if options.engine in ("", "demo") and options.model:
        raise InvalidError(
            "--model needs an engine that loads models", "For example: --engine vllm --model DIR_OR_HF_ID"
        )
    if options.engine not in ("", "demo") and not options.model:
        raise InvalidError(
            f"--engine {options.engine} needs a model", "Name a directory or a Hugging Face id with --model."
        )
    if options.gateway_port == options.coordinator_port:
        raise InvalidError(f"gateway and coordinator cannot both have port {options.gateway_port}")
    if options.name and not NAME.fullmatch(options.name):
        raise InvalidError(
            f"{options.name!r} cannot be a name",
            "A name has at most 63 letters, digits, dots, dashes and underscores, and begins with a letter or digit.",
        )
    if options.model_directory is not None:
        check_model(options.model_directory)
    if options.engine_path and not Path(options.engine_path).expanduser().is_file():
        raise InvalidError(f"the engine program {options.engine_path} does not exist", "--engine-path names a program.")
    if shutil.which("setpriv") is None:
        raise StudioError("the program setpriv is missing", "It is part of util-linux: apt-get install util-linux")


def check_model(folder: Path) -> None:
    """Whether ``folder`` looks like a model's directory."""
    if not folder.is_dir():
        raise InvalidError(
            f"the model directory {folder} does not exist",
            "--model takes a directory or a hub id (OWNER/NAME).",
        )
    if not (folder / "config.json").is_file():
        raise InvalidError(
            f"{folder} holds no model: it has no config.json",
            "Name the directory that holds config.json and the weights.",
        )


def check_ports(wanted: Mapping[str, Address]) -> None:
    """Whether the ports are free; ``wanted`` maps the option that picks a port to its address. Raises PortTakenError."""
    for option, address in wanted.items():
        try:
            with socket.socket() as sock:
                # As the servers do: what is left of closed connections is no obstacle.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((address.host, address.port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortTakenError(
                    f"port {address.port} is taken by {owner_of(address.port)}",
                    f"Choose another one with {option}, or stop that program. Nothing was started.",
                ) from None
            raise StudioError(
                f"port {address.port} cannot be used: {error.strerror}", f"Choose another one with {option}."
            ) from None


def describe_program(argv: Sequence[str]) -> str:
    """The program and its first words: enough to know it, too little to show what is secret in its arguments."""
    return " ".join([Path(argv[0]).name, *argv[1:3]]) if argv else "no command line"


def owner_of(port: int) -> str:
    """Who listens on ``port``, as far as this user may know."""
    with suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            local = connection.laddr
            if connection.status == psutil.CONN_LISTEN and connection.pid and local and local.port == port:
                return f"pid {connection.pid} ({describe_program(psutil.Process(connection.pid).cmdline())})"
    return "a process of another user"
