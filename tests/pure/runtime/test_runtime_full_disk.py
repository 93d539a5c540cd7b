"""What the shared parts do where nothing can be written any more."""

import subprocess
import sys
from pathlib import Path

SPEAKS = """
import structlog
from studio_runtime.logging import configure_logging
configure_logging("agent")
log = structlog.get_logger()
log.info("replica_started", replica="demo-1")
try:
    raise OSError("no room")
except OSError:
    log.exception("not_written")
print("goes on")
"""

LOCKS = """
import resource, sys
from pathlib import Path
from studio_runtime.process import lock_folder
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
with lock_folder(Path(sys.argv[1])):
    try:
        lock_folder(Path(sys.argv[1]))
    except BlockingIOError:
        print("locked")
"""


def test_a_log_line_that_cannot_be_written_ends_nothing() -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        done = subprocess.run([sys.executable, "-c", SPEAKS], stdout=subprocess.PIPE, stderr=full, check=False)
    assert (done.returncode, done.stdout) == (0, b"goes on\n")


def test_a_folder_is_locked_where_the_owner_cannot_be_written_down(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LOCKS, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "locked\n"), done.stderr
