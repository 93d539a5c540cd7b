"""How a gateway gets its identity, and what it is called by.

Workers of one gateway share its identity; each is called ``ID/worker-N``, so that what one of them has in force is not taken for
what another has.
"""

import argparse
import random
import socket
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from studio.v1.identity_service_pb2 import Identity
from studio_runtime.errors import StudioError
from studio_runtime.identity.folder import IdentityFolder, IdentityUnreadableError
from studio_runtime.process import write_atomically
from studio_runtime.tls import ClientTls

if TYPE_CHECKING:
    from studio_runtime.identity.renewal import Renewal

log = structlog.get_logger()

FOLDER = "identity"


def join(parsed: argparse.Namespace) -> None:
    """``studio-gateway join``; ends the process with one sentence where it is refused."""
    from studio_runtime.identity.command import run_join  # noqa: PLC0415 - serving needs none of it

    try:
        run_join(
            parsed,
            Identity.KIND_GATEWAY,
            parsed.name or socket.gethostname(),
            IdentityFolder(parsed.state_dir / FOLDER),
        )
    except StudioError as error:
        sys.exit(f"studio-gateway: {error.message}\n{error.hint}".rstrip())


class GatewayIdentity:
    """Who this process is to the coordinator: by its certificate, or on loopback by a name made once and kept."""

    def __init__(self, state_dir: Path, *, is_worker: bool) -> None:
        self._folder = IdentityFolder((state_dir.parent if is_worker else state_dir) / FOLDER)
        if self._folder.exists:
            proven = self._folder.load().name.id
            self.gateway_id = f"{proven}/{state_dir.name}" if is_worker else proven
        else:
            self.gateway_id = _made_once(state_dir / "gateway-id")

    def tls(self) -> ClientTls | None:
        """For a channel that is opened now; None: in clear text."""
        try:
            return self._folder.tls()
        except IdentityUnreadableError as error:
            # Requests are served by what is in force; the next try may find it whole.
            log.exception("identity_unreadable", reason=error.message)
            return None

    def renewal(self) -> "Renewal | None":
        """What renews the identity; None where there is none."""
        if not self._folder.exists:
            return None
        from studio_runtime.identity.renewal import Renewal  # noqa: PLC0415 - 15 MB, which only a gateway that has joined needs

        return Renewal(self._folder, random.uniform)


def _made_once(file: Path) -> str:
    if not file.exists():
        write_atomically(file, uuid.uuid4().hex.encode())
    return file.read_text(encoding="ascii").strip()
