"""Whether a file is what the hub says it is: SHA-256 of large files, the Git blob's SHA-1 of the others."""

import hashlib
from pathlib import Path

SHA256, GIT = "sha256", "git"
BLOCK_BYTES = 1024 * 1024


def digest_of(path: Path, kind: str) -> str:
    """``sha256:HEX`` or ``git:HEX`` of the file, as ``kind`` says. Raises OSError."""
    # Git names a blob by its type, its size and its content; it guards against accidents here, not against attacks.
    git = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    state = hashlib.sha256() if kind == SHA256 else git
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            state.update(block)
    return f"{kind}:{state.hexdigest()}"


def is_sound(path: Path, digest: str) -> bool:
    """Whether the file has ``digest``. Raises OSError."""
    return digest_of(path, digest.partition(":")[0]) == digest
