"""What ``join`` does on the command line, the same for all roles; and ``renew``, for nodes without a process."""

import argparse
import asyncio
import random
import sys
from datetime import UTC, datetime
from pathlib import Path

from studio.v1.identity_service_pb2 import Identity

from studio_runtime.errors import InvalidError
from studio_runtime.identity.folder import IdentityFolder
from studio_runtime.identity.join import Joining, join
from studio_runtime.identity.names import kind_word
from studio_runtime.identity.ownership import as_owner_of, hand_over
from studio_runtime.identity.renewal import Renewal, due_at


def run_join(parsed: argparse.Namespace, kind: Identity.Kind.ValueType, name: str, folder: IdentityFolder) -> Identity:
    """Join as ``kind`` under ``name``, keep the identity in ``folder``, and say so. Raises StudioError."""
    joining = Joining(kind, name, parsed.coordinator, parsed.fingerprint, parsed.ca_file)
    stored, identity = asyncio.run(join(folder, joining, _token(parsed.token_file)))
    sys.stdout.write(
        f"joined as {kind_word(kind)} {identity.name} (id {identity.id}); "
        f"certificate until {_said(stored.not_after)}{_keeper(kind)}\n"
    )
    return identity


def _keeper(kind: Identity.Kind.ValueType) -> str:
    """Agents and gateways renew by themselves; nothing of a console runs all the time."""
    return "; keep it good with `renew`, every hour" if kind == Identity.KIND_CONSOLE else ", renewed by itself"


def run_renew(folder: IdentityFolder, *, at_once: bool) -> None:
    """Renew the identity in ``folder`` where it is due, or at once, and say so. Raises StudioError."""
    identity = folder.load()
    due = due_at(identity, random.uniform)
    if not at_once and datetime.now(UTC) < due:
        sys.stdout.write(f"certificate until {_said(identity.not_after)}, not renewed before {_said(due)}\n")
        return
    hand_over(folder.root)
    with as_owner_of(folder.root.parent):
        renewed = asyncio.run(Renewal(folder, random.uniform).renew_once(identity)) or folder.load()
    sys.stdout.write(f"certificate until {_said(renewed.not_after)}, generation {renewed.name.generation}\n")


def _said(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _token(file: str) -> str:
    """The token's text. It is never an argument: those are readable to every user of the machine."""
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidError(
            f"the join token in {file} cannot be read: {error}", "Name the file that holds it."
        ) from None
