"""One pull as the agent sees it: a child process that ends with everything here, or with a reason."""

import os
import sys
from collections.abc import Awaitable, Callable

from studio_agent import program
from studio_agent.models.folders import RepositoryFolder
from studio_agent.models.voice import PullProgress, heard_failure, heard_progress

# Of the library: no bars, no reports home, and plain HTTP, whose parts can be taken up again in the middle.
LIBRARY = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}


Token = Callable[[], Awaitable[str]]


async def no_token() -> str:
    """The agent's own, if it has one in its environment."""
    return ""


async def pull(
    folder: RepositoryFolder,
    revision: str,
    tries: int,
    lock: int,
    on_progress: Callable[[PullProgress], None],
    token: Token = no_token,
    *,
    mend: bool,
) -> None:
    """Bring ``revision`` here; the child holds ``lock``, too, and has ``token`` in its environment alone.

    Raises ModelError; cancelling ends it and keeps what is there.
    """
    argv = [sys.executable, "-m", "studio_agent.models.fetch"]
    argv += ["--folder", str(folder.root), "--revision", revision, "--tries", str(tries)]

    def heard(line: str) -> None:
        if (progress := heard_progress(line)) is not None:
            on_progress(progress)

    value = await token()
    environment = os.environ | LIBRARY | ({"HF_TOKEN": value} if value else {})
    try:
        await program.run([*argv, *(["--mend"] if mend else [])], None, heard, (lock,), environment)
    except program.ProgramError as error:
        raise heard_failure(error.lines) from error
