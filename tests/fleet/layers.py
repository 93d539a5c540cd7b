"""A file system to do something in, which leaves no trace in the one that it is made from."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def a_copy_of(base: Path) -> Iterator[Path]:
    """The file system at ``base`` with a layer of its own; gone when the block is left. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory() as folder:
        parts = changes, work, root = [Path(folder, part) for part in ("changes", "work", "root")]
        for part in parts:
            part.mkdir()
        layers = f"lowerdir={base},upperdir={changes},workdir={work}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, str(root)], check=True)  # noqa: S607 - root's own PATH
        try:
            yield root
        finally:
            subprocess.run(["umount", str(root)], check=True)  # noqa: S607 - as above
