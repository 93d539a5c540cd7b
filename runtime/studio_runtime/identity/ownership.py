"""Root writes an identity as the owner of the state folder: the role runs as that user and has to read it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def hand_over(folder: Path) -> None:
    """Give what root has left in ``folder``, and the folder, to the owner of the one above; nothing is done by others."""
    if os.geteuid() != 0 or not folder.exists():
        return
    owner = folder.parent.stat()
    for path in (folder, *folder.iterdir()):
        # The owner may have put a link there: what it points to stays whose it is.
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


@contextmanager
def as_owner_of(state: Path) -> Iterator[None]:
    """Be the owner of ``state`` while this lasts, if this process is root's: what it leaves when it is killed is never root's."""
    if os.geteuid() != 0:
        yield
        return
    owner, group = state.stat(), os.getegid()
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
