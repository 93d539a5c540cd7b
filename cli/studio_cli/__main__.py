"""Entry point of ``studio``."""

import os
import sys
from collections.abc import Sequence

from rich.console import Console
from studio_runtime.errors import StudioError
from studio_runtime.tracing import configure_tracing, flush_tracing

from studio_cli.app import make_app
from studio_cli.errors import exit_code, explain


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Errors are printed here and nowhere else."""
    configure_tracing("studio-cli")
    try:
        make_app()(arguments, prog_name="studio")
    except StudioError as error:
        sys.stdout.flush()
        Console(stderr=True).print(*explain(error), sep="\n", markup=False, highlight=False, soft_wrap=True)
        return exit_code(error)
    except BrokenPipeError:
        # Whoever read this has seen enough; Python would say so when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        # A full disk, a folder that is somebody else's: a matter of this machine, and no stack tells more about it.
        sys.stderr.write(f"Error: {error}\n")
        return 1
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else 0
    finally:
        flush_tracing()
    return 0


def main() -> None:
    """Run the command that was typed."""
    sys.exit(run())


if __name__ == "__main__":
    main()
