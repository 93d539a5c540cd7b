"""One ``studio up`` per installation."""

from collections.abc import Iterator
from contextlib import contextmanager

from studio_runtime.errors import SafetyError
from studio_runtime.process import lock_folder
from studio_runtime.settings import Home


@contextmanager
def locked(home: Home) -> Iterator[None]:
    """Have the installation to oneself; the kernel gives the lock back however the process ends. Raises SafetyError."""
    try:
        lock = lock_folder(home.root)
    except BlockingIOError as error:
        raise SafetyError(
            f"another `studio up` (pid {error.filename or 'unknown'}) already uses {home.root}",
            "Stop it with `studio down`, or run a second system beside it: "
            "STUDIO_HOME=… studio up --gateway-port … --coordinator-port …",
        ) from None
    with lock:
        yield
