"""Whom a command trusts to be the coordinator: ``STUDIO_CA_FILE``, or ``ca_file`` of the context; none: clear text, on loopback.

The file is what ``studio authority show --pem`` prints; while one authority follows another it holds both.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studio_runtime.tls import ClientTls

from studio_cli.addresses import configuration_file, context_in_force, read_configuration


def trusted(flag: str, context: str) -> ClientTls | None:
    """What a connection to the coordinator that ``flag`` or ``context`` names is verified with.

    Raises InvalidError where the file is not usable.
    """
    name = context_in_force(flag, context)
    file = os.environ.get("STUDIO_CA_FILE") or ca_file_of(name, read_configuration(configuration_file()))
    return ClientTls.trusting(Path(file).expanduser()) if file else None


def ca_file_of(context: str, configuration: Mapping[str, Any]) -> str:
    """The CA file of ``context``; empty where it names none."""
    contexts = configuration.get("contexts", {})
    named = contexts.get(context, {}) if isinstance(contexts, Mapping) else {}
    return str(named.get("ca_file", "")) if isinstance(named, Mapping) else ""
