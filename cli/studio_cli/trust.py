"""Whom a command trusts to be the coordinator: ``STUDIO_CA_FILE``, or ``ca_file`` of the context; none: clear text, on loopback.

The file is what ``studio authority show --pem`` prints; while one authority follows another it holds both.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studio_runtime.tls import ClientTls

from studio_cli.addresses import configuration_file, read_configuration


def trusted(context: str) -> ClientTls | None:
    """What a connection to the coordinator is verified with. Raises InvalidError where the file is not usable."""
    file = os.environ.get("STUDIO_CA_FILE") or ca_file_of(context, read_configuration(configuration_file()))
    return ClientTls.trusting(Path(file).expanduser()) if file else None


def ca_file_of(context: str, configuration: Mapping[str, Any]) -> str:
    """The CA file of ``context``, or of the default one; empty where it names none."""
    named = configuration.get("contexts", {}).get(context or configuration.get("context", ""), {})
    return str(named.get("ca_file", "")) if isinstance(named, Mapping) else ""
