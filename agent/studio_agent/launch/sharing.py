"""Letting engines, which run as a user of their own, at exactly the files and folders that they need.

The agent's folder is closed to them except for passing through. What is given is given to the engines' group, of which the agent
is a member. On an installed host systemd-tmpfiles has made the folders so that what is made below them has the group by itself;
then only modes are left to set, which is all that the sandbox of the agent's unit lets it do.
"""

import grp
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from studio_agent.launch.base import LaunchError

PASS_THROUGH = 0o710
APPEND_TO = 0o660
# The set-group-id bit: what is made below has the group too.
WORK_IN = 0o2770


@dataclass(frozen=True)
class EngineGroup:
    """The group of the engines' user."""

    gid: int

    @classmethod
    def named(cls, name: str) -> "EngineGroup":
        """Raises LaunchError where the host has no such group."""
        try:
            return cls(grp.getgrnam(name).gr_gid)
        except KeyError:
            raise LaunchError(
                f"this host has no group {name}",
                "Install the users of the systemd launcher: systemd-sysusers with systemd/vllm-studio-agent.sysusers.conf.",
            ) from None

    def may_work_in(self, folder: Path) -> None:
        """Make the folder where it is not there; engines read and write in it. Raises OSError."""
        folder.mkdir(parents=True, exist_ok=True)
        self._give(folder, WORK_IN)

    def may_append_to(self, file: Path) -> None:
        """Engines append to the file, and reach it through the two folders above it, which they cannot list. Raises OSError."""
        for folder in (file.parent.parent, file.parent):
            self._give(folder, PASS_THROUGH)
        self._give(file, APPEND_TO)

    def _give(self, path: Path, mode: int) -> None:
        """Give the group at least what ``mode`` says."""
        seen = path.stat()
        if seen.st_gid != self.gid:
            os.chown(path, -1, self.gid)
        # A change of group may clear bits, so the mode comes second.
        if stat.S_IMODE(path.stat().st_mode) & mode != mode:
            path.chmod(mode)
