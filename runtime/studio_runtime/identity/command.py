"""What ``join`` does on the command line of a role: the same for agents and gateways."""

import argparse
import asyncio
import os
import sys
from pathlib import Path

from studio.v1.identity_service_pb2 import Identity

from studio_runtime.errors import InvalidError
from studio_runtime.identity.folder import IdentityFolder
from studio_runtime.identity.join import Joining, join
from studio_runtime.identity.names import kind_word


def run_join(parsed: argparse.Namespace, kind: Identity.Kind.ValueType, name: str, folder: IdentityFolder) -> Identity:
    """Join as ``kind`` under ``name``, keep the identity in ``folder``, and say so. Raises StudioError."""
    joining = Joining(kind, name, parsed.coordinator, parsed.fingerprint, parsed.ca_file)
    stored, identity = asyncio.run(join(folder, joining, _token(parsed.token_file)))
    if os.geteuid() == 0:
        _hand_over(folder.root)
    sys.stdout.write(
        f"joined as {kind_word(kind)} {identity.name} (id {identity.id}); "
        f"certificate until {stored.not_after:%Y-%m-%d %H:%M} UTC, renewed by itself\n"
    )
    return identity


def _hand_over(folder: Path) -> None:
    """Give what root has written to the owner of the state folder: the role runs as that user."""
    owner = folder.parent.stat()
    for path in (folder, *folder.iterdir()):
        os.chown(path, owner.st_uid, owner.st_gid)


def _token(file: str) -> str:
    """The token's text. It is never an argument: those are readable to every user of the machine."""
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidError(
            f"the join token in {file} cannot be read: {error}", "Name the file that holds it."
        ) from None
