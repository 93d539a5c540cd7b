"""The child that pulls one revision into the cache. It speaks JSON lines on standard output and exits with 0 when all is there.

``{"progress": {…}}``  how far it is, twice a second, and whenever there is something to say
``{"failed": {…}}``    the last line of one that exits with 1: a word, a sentence and a hint
"""

import argparse
import errno
import logging
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

from studio_runtime.process import die_with_parent

from studio_agent.models.digests import is_sound
from studio_agent.models.errors import HubUnavailableError, ModelCorruptError, ModelDiskError, ModelError
from studio_agent.models.folders import READABLE, Listing, ModelFile, RepositoryFolder, RevisionFolder
from studio_agent.models.hub import Hub
from studio_agent.models.voice import Voice

PARALLEL_FILES = 4
# Free space for what is to come, and some more.
SPARE = 1.1
# How often a file is fetched that is not what the hub says it is.
FETCHES = 2
GIB = 1024**3
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Pull:
    """One revision on its way from the hub to the disk."""

    def __init__(self, folder: RepositoryFolder, revision: str, tries: int, voice: Voice) -> None:
        self._folder = folder
        self._revision = revision
        self._voice = voice
        self._hub = Hub(folder.repository, folder.variant, tries, voice.say)

    def run(self, *, mend: bool) -> None:
        """Bring everything here; with ``mend`` also ask what the revision is by now, and check what is here already.

        Raises ModelError or OSError.
        """
        is_commit = self._folder.commit_of(self._revision) == self._revision
        listing = (self._known() if is_commit or not mend else None) or self._ask()
        target = self._folder.revision(listing.commit)
        target.store(listing)
        self._folder.store_ref(self._revision, listing.commit)
        self._voice.about(target, listing)
        if mend:
            self._drop_unsound(target, listing)
        missing = [file for file in listing.files if not target.has(file)]
        if missing:
            target.mark_incomplete()
            _check_disk(target, listing)
            self._fetch_all(target, missing)
        target.mark_complete()
        self._voice.say("")

    def _known(self) -> Listing | None:
        commit = self._folder.commit_of(self._revision)
        return self._folder.revision(commit).listing() if commit else None

    def _ask(self) -> Listing:
        try:
            return self._hub.listing(self._revision)
        except HubUnavailableError:
            # What is complete is good enough while nobody can say what is newer.
            known = self._known()
            if known is None or not self._folder.revision(known.commit).is_complete(known):
                raise
            return known

    def _drop_unsound(self, target: RevisionFolder, listing: Listing) -> None:
        for number, file in enumerate(listing.files, 1):
            path = target.whole(file)
            if path.exists():
                self._voice.say(f"checking file {number} of {len(listing.files)}")
                if not target.has(file) or not is_sound(path, file.digest):
                    target.mark_incomplete()
                    path.unlink()

    def _fetch_all(self, target: RevisionFolder, missing: list[ModelFile]) -> None:
        self._voice.say("")
        pool = ThreadPoolExecutor(PARALLEL_FILES)
        try:
            for _ in pool.map(lambda file: self._fetch(target, file), missing):
                self._voice.say("")
        finally:
            # After an error the process ends, and with it the other threads; what they have got so far stays.
            pool.shutdown(wait=False, cancel_futures=True)

    def _fetch(self, target: RevisionFolder, file: ModelFile) -> None:
        part, path = target.part(file), target.whole(file)
        part.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(FETCHES):
            self._hub.fetch(target.commit, file, part)
            if is_sound(part, file.digest):
                path.parent.mkdir(parents=True, exist_ok=True)
                part.chmod(READABLE)
                # What was checked is in memory; a power cut must not leave the marker on disk and the weights not.
                _to_disk(part)
                part.replace(path)
                _to_disk(path.parent)
                return
            part.unlink()
            self._voice.say(f"{file.path} came damaged and is fetched anew")
        raise ModelCorruptError(
            f"{file.path} is not what the hub says it is, {FETCHES} times in a row",
            "A proxy or a mirror on the way may change it, or the disk may be broken. The other files are kept.",
        )


def _to_disk(path: Path) -> None:
    """Return when a file's bytes, or a folder's entries, are on disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_disk(target: RevisionFolder, listing: Listing) -> None:
    needed = int((listing.bytes_total - target.bytes_done(listing)) * SPARE)
    free = shutil.disk_usage(target.root).free
    if free < needed:
        raise ModelDiskError(
            f"{needed / GIB:.2f} GiB are needed for the rest of the model, but {free / GIB:.2f} GiB are free",
            f"Free space on the disk of {target.root.parent.parent}, for example with `studio models rm`.",
        )


def main() -> None:
    """Pull, and exit without waiting for threads that are in the middle of something."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True, help="of the repository")
    parser.add_argument("--revision", required=True)
    parser.add_argument("--tries", type=int, required=True)
    parser.add_argument("--mend", action="store_true")
    given = parser.parse_args()
    die_with_parent()
    voice = Voice()
    logging.getLogger("huggingface_hub").addHandler(voice.as_log())
    threading.Thread(target=voice.keep_saying, daemon=True).start()
    try:
        Pull(RepositoryFolder(given.folder), given.revision, given.tries, voice).run(mend=given.mend)
    except ModelError as error:
        _fail(voice, error)
    except OSError as error:
        what = "the disk is full" if error.errno in NO_ROOM else f"the disk cannot be written: {error}"
        hint = "What is there is kept. Free space, then `studio models pull` goes on with it."
        _fail(voice, ModelDiskError(f"the model could not be fetched: {what}", hint))
    os._exit(0)


def _fail(voice: Voice, error: ModelError) -> NoReturn:
    voice.fail(error)
    os._exit(1)


if __name__ == "__main__":
    main()
