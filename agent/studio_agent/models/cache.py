"""``ModelCache``: the models of this host, and everybody who wants one.

Those who want the same repository take turns, in one order over all processes; who comes second finds the files there. A pause
or a cancellation releases all of them: replicas wait until the pull goes on, commands end.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine
from pathlib import Path

from studio.v1.host_pb2 import CachedModel
from studio.v1.recipe_pb2 import ModelSource
from studio_runtime.errors import InvalidError, NotFoundError

from studio_agent.latest import Latest
from studio_agent.models.errors import (
    ModelDiskError,
    ModelError,
    ModelInUseError,
    ModelMissingError,
    PullCancelledError,
    PullPausedError,
)
from studio_agent.models.folders import RepositoryFolder, RevisionFolder, repositories
from studio_agent.models.inventory import inventory
from studio_agent.models.pull import Token, no_token, pull
from studio_agent.models.roots import ModelRoots
from studio_agent.models.source import check_adapter, check_local, local_directory, repository_of
from studio_agent.models.voice import PullProgress
from studio_agent.threads import to_the_end
from studio_agent.turn import turn

DEFAULT_REVISION = "main"
# How often in a row the hub may fail: about a minute with the waits between.
TRIES = 7

Report = Callable[[PullProgress], None]


class ModelCache:
    """The cache in ``models_dir``; ``changed`` is called after each change, also of progress.

    ``roots`` are the directories that ``path://`` may name; without them only the cache itself.
    """

    def __init__(
        self,
        models_dir: Path,
        changed: Callable[[], None] = lambda: None,
        tries: int = TRIES,
        roots: ModelRoots | None = None,
    ) -> None:
        self._models_dir = models_dir
        self._roots = roots or ModelRoots((models_dir,))
        self._changed = changed
        self._tries = tries
        # By source.
        self._known: dict[str, list[CachedModel]] = {}
        self._pulling: dict[str, PullProgress] = {}
        self._stops: defaultdict[str, set[asyncio.Future[ModelError]]] = defaultdict(set)
        self._news: Latest[None] = Latest(None)

    async def load(self) -> None:
        """Look at what is there."""
        for folder in await asyncio.to_thread(repositories, self._models_dir):
            await self._look(folder)

    def models(self) -> list[CachedModel]:
        """What is here and what is on its way, by name."""
        return [model for source in sorted(self._known) for model in self._known[source]]

    async def local(self, source: str) -> Path | None:
        """The directory of a ``path://`` source that holds a model; None of any other source. Raises ModelError."""
        return await self._checked(source, check_local)

    async def local_adapter(self, source: str) -> Path | None:
        """The same of a LoRA adapter."""
        return await self._checked(source, check_adapter)

    async def _checked(self, source: str, check: Callable[[Path], None]) -> Path | None:
        folder = local_directory(source)
        if folder is not None:
            # In this order: nobody learns what is where no models are.
            await asyncio.to_thread(self._roots.require, folder)
            await asyncio.to_thread(check, folder)
        return folder

    async def obtain(self, source: str, revision: str, report: Report, token: Token = no_token) -> Path:
        """The directory of a replica's model: fetched where it is not complete, without a word to the hub where it is.

        ``token`` brings the hub token of the recipe, and is asked only where something is fetched. While the pull is paused it
        waits. Raises ModelError.
        """
        if (local := await self.local(source)) is not None:
            return local
        folder, revision = self._folder(source), revision or DEFAULT_REVISION
        while (found := await asyncio.to_thread(_complete, folder, revision)) is None:
            version = self._news.version
            if await asyncio.to_thread(folder.pause.exists):
                report(PullProgress(note="paused: `studio models pull` goes on with it"))
                await self._news.newer_than(version)
                continue
            try:
                await self._stoppable(folder.source, self._pull(folder, revision, report, token, mend=False))
            except PullPausedError:
                continue
        return found.root

    async def pull(self, source: str, revision: str, report: Report) -> Path:
        """Fetch a model, or mend the copy that is here: every file is checked. Raises ModelError."""
        if (local := await self.local(source)) is not None:
            return local
        folder, revision = self._folder(source), revision or DEFAULT_REVISION
        await to_the_end(folder.pause.unlink, missing_ok=True)
        self._tell()
        await self._stoppable(folder.source, self._pull(folder, revision, report, no_token, mend=True))
        found = await asyncio.to_thread(_complete, folder, revision)
        if found is None:
            raise ModelDiskError(f"{source} was fetched, and is gone again", "Look who else writes there.")
        return found.root

    async def pause(self, source: str) -> None:
        """Stop fetching and keep what is there. Raises NotFoundError where there is nothing to pause."""
        folder = self._folder(source)
        unfinished = [one for one in self._known.get(folder.source, []) if one.state != CachedModel.STATE_COMPLETE]
        if not self._stops[folder.source] and not unfinished:
            raise NotFoundError(f"no pull of {source} is under way on this host", "See studio models list.")
        await to_the_end(folder.root.mkdir, parents=True, exist_ok=True)
        await to_the_end(folder.pause.touch)
        self._stop(folder, PullPausedError(f"the pull of {source} was paused", "`studio models pull` goes on with it."))
        await self._look(folder)

    async def cancel(self, source: str) -> None:
        """Stop fetching and drop what is not whole. Raises NotFoundError where there is nothing to cancel."""
        folder = self._folder(source)
        unfinished = [one for one in self._known.get(folder.source, []) if one.state != CachedModel.STATE_COMPLETE]
        if not self._stops[folder.source] and not unfinished:
            raise NotFoundError(f"no pull of {source} is under way on this host", "See studio models list.")
        self._stop(
            folder, PullCancelledError(f"the pull of {source} was cancelled", "Start the deployment to try again.")
        )
        async with turn(folder.lock, lambda: None):
            await to_the_end(_drop_unfinished, folder)
        await self._look(folder)

    async def choose(self, source: str, revision: str) -> RevisionFolder:
        """What is here of ``source`` in ``revision`` ("": the only one). Raises NotFoundError or InvalidError."""
        folder = self._folder(source)
        commit = await asyncio.to_thread(folder.commit_of, revision) if revision else ""
        found = [one for one in self._known.get(folder.source, []) if one.path and commit in ("", one.revision)]
        if not found or (revision and not commit):
            raise NotFoundError(f"{source} {revision}".rstrip() + " is not on this host", "See studio models list.")
        if len(found) > 1:
            commits = ", ".join(one.revision[:12] for one in found)
            raise InvalidError(f"there are several revisions of {source} on this host: {commits}", "Name one, in full.")
        return folder.revision(found[0].revision)

    async def remove(self, model: RevisionFolder) -> None:
        """Remove a revision. Raises ModelInUseError or OSError."""
        folder = RepositoryFolder(model.root.parent)
        if self._stops[folder.source]:
            raise ModelInUseError(f"{folder.source} is being pulled", "Cancel that first: studio models cancel.")
        async with turn(folder.lock, lambda: None):
            await to_the_end(model.remove)
        await self._look(folder)

    async def directory_of(self, model: ModelSource) -> Path | None:
        """Where in this cache a replica of ``model`` has its files; None where that is not known, or elsewhere."""
        try:
            folder = self._folder(model.source)
        except ModelMissingError:
            return None
        commit = await asyncio.to_thread(folder.commit_of, model.revision or DEFAULT_REVISION)
        return folder.revision(commit).root if commit else None

    async def _pull(self, folder: RepositoryFolder, revision: str, report: Report, token: Token, *, mend: bool) -> None:
        def heard(progress: PullProgress) -> None:
            self._pulling[folder.source] = progress
            self._show(folder, revision, progress)
            report(progress)

        waited = False

        def waiting() -> None:
            nonlocal waited
            waited = True
            report(self._pulling.get(folder.source, PullProgress(note="waiting for another pull of the repository")))

        try:
            await to_the_end(folder.root.mkdir, parents=True, exist_ok=True)
            async with turn(folder.lock, waiting) as lock:
                try:
                    heard(PullProgress(note="asking the hub"))
                    # Whoever had to wait gets what another one has just fetched or checked.
                    await pull(folder, revision, self._tries, lock, heard, token, mend=mend and not waited)
                finally:
                    self._pulling.pop(folder.source, None)
        except OSError as error:
            raise ModelDiskError(
                f"{folder.source} cannot be fetched: {error}",
                f"The agent must be able to write in {self._models_dir}.",
            ) from error
        finally:
            await self._look(folder)

    async def _stoppable(self, source: str, work: Coroutine[None, None, None]) -> None:
        """Do ``work`` until it ends, or until somebody stops the pulls of ``source``."""
        stop: asyncio.Future[ModelError] = asyncio.get_running_loop().create_future()
        working = asyncio.ensure_future(work)
        self._stops[source].add(stop)
        try:
            await asyncio.wait((working, stop), return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise stop.result()
            working.result()
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            self._stops[source].discard(stop)

    def _stop(self, folder: RepositoryFolder, why: ModelError) -> None:
        for stop in self._stops[folder.source]:
            if not stop.done():
                stop.set_result(why)

    def _folder(self, source: str) -> RepositoryFolder:
        return RepositoryFolder.of(self._models_dir, repository_of(source))

    def _show(self, folder: RepositoryFolder, revision: str, progress: PullProgress) -> None:
        """Put a pull that is under way among what is known."""
        shown = CachedModel(
            source=folder.source,
            revision=progress.commit or revision,
            state=CachedModel.STATE_PULLING,
            bytes_done=progress.bytes_done,
            bytes_total=progress.bytes_total,
        )
        others = self._known.get(folder.source, [])
        replaced = (shown.revision, revision)
        self._known[folder.source] = [shown, *(one for one in others if one.revision not in replaced)]
        self._tell()

    async def _look(self, folder: RepositoryFolder) -> None:
        """See what is on the disk; while a pull is under way its own word counts."""
        if folder.source not in self._pulling:
            self._known[folder.source] = await asyncio.to_thread(inventory, folder)
            self._tell()

    def _tell(self) -> None:
        self._news.set(None)
        self._changed()


def _complete(folder: RepositoryFolder, revision: str) -> RevisionFolder | None:
    commit = folder.commit_of(revision)
    if not commit:
        return None
    found = folder.revision(commit)
    listing = found.listing()
    return found if listing is not None and found.is_complete(listing) else None


def _drop_unfinished(folder: RepositoryFolder) -> None:
    folder.pause.unlink(missing_ok=True)
    for revision in folder.revisions():
        listing = revision.listing()
        if listing is None or not revision.is_complete(listing):
            revision.remove()
