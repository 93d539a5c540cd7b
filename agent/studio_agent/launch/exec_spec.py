"""The command of ``studio-engine@.service``: become the engine that the instance's spec describes.

    python -I -m studio_agent.launch.exec_spec INSTANCE

It runs as the engine's user, in the unit's sandbox, and opens the log itself: systemd would open it as root, on a path that the
agent chose. There is no shell, and nothing of the unit's environment goes on to the engine.
"""

import os
import sys

from studio_agent.launch.engine_spec import EngineSpec, spec_path

# As a shell says it: the program cannot be run. 78 is EX_CONFIG of sysexits.h.
NOT_STARTED = 127
NO_SPEC = 78


def main() -> None:
    """Become the engine; exits with 127 and one line in the engine's log, or 78 and one in the journal, if it cannot."""
    try:
        (instance,) = sys.argv[1:]
        spec = EngineSpec.read(spec_path(instance))
        log = os.open(spec.log_path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"the engine was not started: {error}\n")
        sys.exit(NO_SPEC)
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())
    try:
        if spec.cwd:
            os.chdir(spec.cwd)
        os.execvpe(spec.argv[0], spec.argv, spec.env)  # noqa: S606 - an argv array; there is no shell
    except OSError as error:
        sys.stderr.write(f"cannot run {spec.argv[0]}: {error.strerror}\n")
    except ValueError as error:
        sys.stderr.write(f"cannot run {spec.argv[0]}: {error}\n")
    sys.exit(NOT_STARTED)


if __name__ == "__main__":
    main()
