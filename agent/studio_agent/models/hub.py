"""The hub, through ``huggingface_hub``: which commit a revision is, what belongs to it, and the bytes of a file.

Only the pulling child imports this. What the hub refuses for now (429, 5xx, no connection) is asked again after a while, which is
as long as the hub asks for where it does; what it refuses for good is a ModelError.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import httpx2
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import hf_hub_url, http_get
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils._headers import build_hf_headers

from studio_agent.models.digests import GIT, SHA256
from studio_agent.models.errors import HubUnavailableError, ModelError, ModelGatedError, ModelMissingError
from studio_agent.models.folders import Listing, ModelFile
from studio_agent.models.selection import wanted
from studio_agent.models.waits import asked_seconds, next_wait

T = TypeVar("T")

# How much of a file may be lost when a pull is broken off; the library's own 10 MiB make slow pulls look stuck, too.
constants.DOWNLOAD_CHUNK_SIZE = 1024 * 1024
TOO_MANY_REQUESTS = 429
SERVER_ERRORS = 500


class Hub:
    """One repository on the hub. ``say`` is told, in a line for people, what is waited for."""

    def __init__(self, repository: str, variant: str, tries: int, say: Callable[[str], None]) -> None:
        """``variant``: which quantization in GGUF; "": none named. ``tries``: how often in a row the hub may fail."""
        self._repository = repository
        self._variant = variant
        self._tries = tries
        self._say = say
        self._api = HfApi()

    def listing(self, revision: str) -> Listing:
        """What belongs to ``revision``. Raises ModelError."""
        return self._patiently(lambda: self._listing(revision), lambda: 0)

    def fetch(self, commit: str, file: ModelFile, part: Path) -> None:
        """Bring ``part`` to the size of ``file``, from where it ends. Raises ModelError or OSError."""
        url = hf_hub_url(self._repository, file.path, revision=commit, endpoint=self._api.endpoint)

        def go_on() -> None:
            with part.open("ab") as target:
                done = target.tell()
                if done > file.size_bytes:
                    target.truncate(0)
                    done = 0
                http_get(
                    url,
                    target,
                    resume_size=done,
                    headers=build_hf_headers(),
                    expected_size=file.size_bytes,
                    displayed_filename=file.path,
                )

        self._patiently(go_on, lambda: part.stat().st_size if part.exists() else 0)

    def _listing(self, revision: str) -> Listing:
        commit = self._api.model_info(self._repository, revision=revision).sha or ""
        tree = self._api.list_repo_tree(self._repository, recursive=True, revision=commit)
        files = {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}
        try:
            return Listing(commit, tuple(_model_file(files[path]) for path in wanted(list(files), self._variant)))
        except ValueError as error:
            raise ModelMissingError(
                f"{self._repository} cannot be had: {error}", "See what is in the repository on the hub."
            ) from error

    def _patiently(self, call: Callable[[], T], progress: Callable[[], int]) -> T:
        """``call``, again while the hub refuses for now; bytes that came meanwhile count as success."""
        failures, seen = 0, progress()
        while True:
            try:
                with self._refusals_explained():
                    return call()
            except (HfHubHTTPError, httpx2.TransportError) as error:
                failures = 1 if progress() > seen else failures + 1
                seen = progress()
                wait = next_wait(failures, self._tries, _asked(error))
                if wait is None:
                    raise HubUnavailableError(
                        f"{self._repository} cannot be fetched now: {_told(error)}",
                        "What is there is kept. `studio models pull` goes on with it.",
                    ) from error
                self._say(f"{_told(error)}; next try in {wait:.0f} s")
                time.sleep(wait)

    @contextmanager
    def _refusals_explained(self) -> Iterator[None]:
        """Turn what is refused for good into ModelErrors; the rest goes through."""
        name = self._repository
        try:
            yield
        except GatedRepoError as error:
            raise ModelGatedError(
                f"the hub gives {name} only to those who accepted its terms",
                "Accept them on the hub, and give the agent a token in HF_TOKEN.",
            ) from error
        except (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError) as error:
            raise ModelMissingError(
                f"the hub has no such model, revision or file: {name}",
                "Check the spelling; a private model needs a token in HF_TOKEN.",
            ) from error
        except OfflineModeIsEnabled as error:
            raise HubUnavailableError(
                f"{name} is not complete on this host, and HF_HUB_OFFLINE is set",
                "Start the agent without it, or copy the model and name it with path://.",
            ) from error
        except HfHubHTTPError as error:
            if _status(error) != TOO_MANY_REQUESTS and _status(error) < SERVER_ERRORS:
                raise ModelError(f"the hub refuses {name}: {_told(error)}", "See the hub's own message.") from error
            raise


def _model_file(entry: RepoFile) -> ModelFile:
    if entry.lfs is not None:
        return ModelFile(entry.path, entry.lfs.size, f"{SHA256}:{entry.lfs.sha256}")
    return ModelFile(entry.path, entry.size, f"{GIT}:{entry.blob_id}")


def _status(error: HfHubHTTPError) -> int:
    return int(error.response.status_code)


def _asked(error: Exception) -> float:
    if not isinstance(error, HfHubHTTPError):
        return 0.0
    return asked_seconds(error.response.headers.get("Retry-After", ""), datetime.now(UTC))


def _told(error: Exception) -> str:
    if isinstance(error, HfHubHTTPError):
        return f"the hub answered {_status(error)}"
    return f"the hub cannot be reached ({type(error).__name__})"
