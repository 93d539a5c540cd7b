"""Cached models on disk.

::

    MODELS/OWNER--NAME/             one repository; OWNER--NAME--VARIANT where only a part of it was asked for
        refs.json                   names of revisions, and the commits that they last stood for
        paused                      there while nothing is to be fetched
        .lock                       held by whoever changes the repository
        COMMIT/                     one revision: what engines are given
            config.json …           whole files, each with its digest checked
            .studio/files.json      the listing: what belongs to it
            .studio/parts/…         files on their way
            .studio/complete        written last
"""

import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from studio_runtime.process import write_atomically

COMMIT = re.compile(r"[0-9a-f]{40}")
OWN = ".studio"
# Engines run as another user than the agent.
READABLE = 0o644


@dataclass(frozen=True)
class ModelFile:
    """One file of a revision, as the hub lists it."""

    path: str
    size_bytes: int
    # sha256:HEX or git:HEX
    digest: str

    def __post_init__(self) -> None:
        """Refuse what would leave the folder: the listing comes from elsewhere. Raises ValueError."""
        parts = PurePosixPath(self.path).parts
        if not parts or self.path.startswith("/") or ".." in parts or parts[0] == OWN or "\0" in self.path:
            raise ValueError(f"{self.path!r} is no path inside a model")


@dataclass(frozen=True)
class Listing:
    """What belongs to a revision."""

    commit: str
    files: tuple[ModelFile, ...]

    @property
    def bytes_total(self) -> int:
        """Of all files."""
        return sum(file.size_bytes for file in self.files)


@dataclass(frozen=True)
class RevisionFolder:
    """One revision of a model, whole or not."""

    root: Path

    @property
    def commit(self) -> str:
        """The immutable revision."""
        return self.root.name

    def listing(self) -> Listing | None:
        """What belongs to it; None where that was never stored."""
        try:
            fields = json.loads((self.root / OWN / "files.json").read_bytes())
            return Listing(self.commit, tuple(ModelFile(**file) for file in fields["files"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def store(self, listing: Listing) -> None:
        """Store what belongs to it. Raises OSError."""
        text = json.dumps({"files": [asdict(file) for file in listing.files]}, indent=1)
        write_atomically(self.root / OWN / "files.json", text.encode(), READABLE)

    def whole(self, file: ModelFile) -> Path:
        """Where ``file`` is once it is whole."""
        return self.root / file.path

    def part(self, file: ModelFile) -> Path:
        """Where ``file`` is on its way; another content of the same name goes elsewhere."""
        name = hashlib.sha256(f"{file.path}\0{file.digest}".encode()).hexdigest()
        return self.root / OWN / "parts" / name[:32]

    def has(self, file: ModelFile) -> bool:
        """Whether ``file`` is whole, by its size."""
        return _size(self.whole(file)) == file.size_bytes

    def bytes_done(self, listing: Listing) -> int:
        """What is there of ``listing``, parts included."""
        return sum(
            file.size_bytes if self.has(file) else min(file.size_bytes, _size(self.part(file)) or 0)
            for file in listing.files
        )

    def is_complete(self, listing: Listing) -> bool:
        """Whether it was marked complete and no file has gone or changed its size since."""
        return (self.root / OWN / "complete").exists() and all(self.has(file) for file in listing.files)

    def mark_complete(self) -> None:
        """Say that every file is there and was checked; the last step of a pull. Raises OSError."""
        shutil.rmtree(self.root / OWN / "parts", ignore_errors=True)
        write_atomically(self.root / OWN / "complete", b"", READABLE)

    def mark_incomplete(self) -> None:
        """Say that something is to be done. Raises OSError."""
        (self.root / OWN / "complete").unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove it; what a crash leaves does not count as complete. Raises OSError."""
        self.mark_incomplete()
        shutil.rmtree(self.root)


@dataclass(frozen=True)
class RepositoryFolder:
    """What the host has of one repository."""

    root: Path

    @classmethod
    def of(cls, models_dir: Path, repository: str) -> "RepositoryFolder":
        """The folder of ``OWNER/NAME``, or of ``OWNER/NAME:VARIANT``."""
        return cls(models_dir / repository.replace("/", "--").replace(":", "--"))

    @property
    def repository(self) -> str:
        """``OWNER/NAME``."""
        return "/".join(self.root.name.split("--")[:2])

    @property
    def variant(self) -> str:
        """Which form of the weights; "" where none was named."""
        return "".join(self.root.name.split("--")[2:])

    @property
    def source(self) -> str:
        """As recipes name it."""
        return f"hf://{self.repository}" + (f":{self.variant}" if self.variant else "")

    @property
    def lock(self) -> Path:
        """Held by whoever changes anything here."""
        return self.root / ".lock"

    @property
    def pause(self) -> Path:
        """There while nothing is to be fetched."""
        return self.root / "paused"

    def revision(self, commit: str) -> RevisionFolder:
        """The folder of one commit."""
        return RevisionFolder(self.root / commit)

    def revisions(self) -> Iterator[RevisionFolder]:
        """The revisions of which there is something."""
        if self.root.is_dir():
            for folder in sorted(self.root.iterdir()):
                if COMMIT.fullmatch(folder.name) and folder.is_dir():
                    yield RevisionFolder(folder)

    def commit_of(self, revision: str) -> str:
        """The commit that ``revision`` stands for as far as is known here; "" where it is not."""
        if COMMIT.fullmatch(revision):
            return revision
        return self._refs().get(revision, "")

    def store_ref(self, revision: str, commit: str) -> None:
        """Remember what ``revision`` stands for. Raises OSError."""
        if revision != commit:
            write_atomically(self.root / "refs.json", json.dumps({**self._refs(), revision: commit}).encode())

    def _refs(self) -> dict[str, str]:
        with contextlib.suppress(OSError, ValueError):
            refs = json.loads((self.root / "refs.json").read_bytes())
            if isinstance(refs, dict):
                return {str(name): str(commit) for name, commit in refs.items() if COMMIT.fullmatch(str(commit))}
        return {}


def repositories(models_dir: Path) -> list[RepositoryFolder]:
    """The repositories below ``models_dir`` by name."""
    if not models_dir.is_dir():
        return []
    return [
        RepositoryFolder(folder) for folder in sorted(models_dir.iterdir()) if "--" in folder.name and folder.is_dir()
    ]


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
