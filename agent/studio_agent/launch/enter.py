"""Runs between fork and the engine's program: join the engine's cgroup, undo what the agent changed, become the engine.

It is run as a file by a bare interpreter (``-I -S``), so it imports nothing of ours. Being the engine's own process, there is no
moment at which the engine runs outside its cgroup.

    enter.py CGROUP_FOLDER_OR_EMPTY PROGRAM [ARGUMENT…]
"""

import contextlib
import os
import signal
import sys

NOT_STARTED = 127


def main() -> None:
    """Join, restore, exec; exits with 127 and one line in the engine's log when the program cannot be run."""
    _, cgroup, *argv = sys.argv
    if cgroup:
        # Without it the engine's session and token still mark it.
        with contextlib.suppress(OSError), open(cgroup + "/cgroup.procs", "w") as procs:  # noqa: PTH123 - 20 ms of imports
            procs.write("0")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        os.execvpe(argv[0], argv, os.environ)  # noqa: S606 - an argv array; there is no shell
    except OSError as error:
        sys.stderr.write(f"cannot run {argv[0]}: {error.strerror}\n")
        sys.exit(NOT_STARTED)


main()
