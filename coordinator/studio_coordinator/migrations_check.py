"""``studio-coordinator migrations-check``: every migration up, down and up again, on a throw-away PostgreSQL."""

import asyncio
import sys
import tempfile
from pathlib import Path

from studio_coordinator.embedded_postgres import running
from studio_coordinator.store.migrations import code_revision
from studio_coordinator.store.migrations.check import migration_problems


def check() -> None:
    """Exit with what is wrong, or say that nothing is."""
    with tempfile.TemporaryDirectory() as folder, running(Path(folder) / "pg", {"fsync": "off"}) as embedded:
        problems = asyncio.run(migration_problems(embedded.url))
    if problems:
        sys.exit("migrations:\n" + "\n".join(f"  {problem}" for problem in problems))
    sys.stdout.write(
        f"migrations: up to {code_revision()}, the same tables as the code, down to nothing, up again; "
        "code of the release before can go on\n"
    )
