"""Which coordinator a command talks to.

In this order: ``--coordinator``, ``--context``, ``STUDIO_COORDINATOR``, the ``studio up`` of this ``STUDIO_HOME`` (``up.json``,
or while it is still starting the coordinator's ready file), the default context, the default address: what is typed goes before
what is set, and that before what merely runs here.

The configuration file is ``$XDG_CONFIG_HOME/vllm-studio/config.toml``::

    context = "lab"                                # optional: what is used where nothing else says

    [contexts.lab]
    coordinator = "10.0.0.5:7070,10.0.0.6:7070"
    ca_file = "/etc/studio/authorities.pem"        # optional: whom to trust; without it in clear text
    token_file = "~/.config/vllm-studio/lab.token" # optional: `studio login` writes it
"""

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio_runtime.errors import InvalidError
from studio_runtime.settings import DEFAULT_COORDINATOR_PORT, Address, Home

DEFAULT = Address("127.0.0.1", DEFAULT_COORDINATOR_PORT)


@dataclass(frozen=True)
class Sources:
    """Everything that may name a coordinator; empty where it names none."""

    flag: str = ""
    environment: str = ""
    context: str = ""
    running_here: str = ""
    configuration: Mapping[str, Any] | None = None


def choose(sources: Sources) -> list[Address]:
    """The addresses to try, in order. Raises InvalidError where an address or a context is not one."""
    if sources.flag:
        return parse_addresses(sources.flag)
    if sources.context:
        return of_context(sources.context, sources.configuration or {})
    if text := sources.environment or sources.running_here:
        return parse_addresses(text)
    default_context = (sources.configuration or {}).get("context")
    if default_context:
        return of_context(str(default_context), sources.configuration or {})
    return [DEFAULT]


def parse_addresses(text: str) -> list[Address]:
    """Read ``HOST:PORT[,HOST:PORT…]``."""
    try:
        addresses = [Address.parse(part.strip(), DEFAULT_COORDINATOR_PORT) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise InvalidError(f"the coordinator's address: {error}", "It is written HOST:PORT[,HOST:PORT…].") from None
    if not addresses:
        raise InvalidError("the coordinator's address is empty", "It is written HOST:PORT[,HOST:PORT…].")
    return addresses


def of_context(name: str, configuration: Mapping[str, Any]) -> list[Address]:
    """The addresses of one context of the configuration file."""
    contexts = configuration.get("contexts", {})
    known = contexts if isinstance(contexts, Mapping) else {}
    context = known.get(name)
    if not isinstance(context, Mapping) or not isinstance(context.get("coordinator"), str):
        names = ", ".join(sorted(known)) or "none"
        raise InvalidError(
            f"there is no context {name!r} with a coordinator in {configuration_file()}",
            f'Contexts there: {names}. One is written: [contexts.{name}] coordinator = "HOST:PORT"',
        )
    return parse_addresses(context["coordinator"])


def context_in_force(flag: str, context: str) -> str:
    """The context that was asked for, or the default one where nothing else names a coordinator: whose word on trust counts."""
    if context:
        return context
    if flag or os.environ.get("STUDIO_COORDINATOR") or running_here(Home.from_environment()):
        return ""
    return str(read_configuration(configuration_file()).get("context", ""))


def configuration_file() -> Path:
    """Where contexts are kept."""
    folder = os.environ.get("XDG_CONFIG_HOME")
    return (Path(folder) if folder else Path.home() / ".config") / "vllm-studio" / "config.toml"


def read_configuration(file: Path) -> dict[str, Any]:
    """The configuration; empty where there is no file. Raises InvalidError where it is not TOML."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidError(
            f"{file} cannot be read: {error}", "Mend it, or name the coordinator with --coordinator."
        ) from None


def running_here(home: Home) -> str:
    """The coordinator that ``studio up`` started on ``home``; empty where none is known."""
    for file, key in ((home.up_file, "coordinator"), (home.run / "coordinator.json", "address")):
        try:
            address = json.loads(file.read_text(encoding="utf-8"))[key]
        except (OSError, ValueError, KeyError, TypeError):
            # Files of another process: absent, half a file of a full disk, of another version. Not knowing is fine here.
            continue
        if isinstance(address, str):
            return address
    return ""


def resolve(flag: str, context: str) -> list[Address]:
    """The addresses to try for this invocation."""
    return choose(
        Sources(
            flag=flag,
            environment=os.environ.get("STUDIO_COORDINATOR", ""),
            context=context,
            running_here=running_here(Home.from_environment()),
            configuration=read_configuration(configuration_file()),
        )
    )
