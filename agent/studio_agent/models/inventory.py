"""What is on the disk of one repository, as the contract has it."""

from studio.v1.host_pb2 import CachedModel

from studio_agent.models.folders import RepositoryFolder, RevisionFolder


def inventory(folder: RepositoryFolder) -> list[CachedModel]:
    """Every revision of which there is something."""
    paused = folder.pause.exists()
    found = [_entry(folder, revision, paused=paused) for revision in folder.revisions()]
    if paused and all(one.state == CachedModel.STATE_COMPLETE for one in found):
        # Paused before the hub had said what belongs to it.
        found.append(CachedModel(source=folder.source, state=CachedModel.STATE_PAUSED))
    return found


def _entry(folder: RepositoryFolder, revision: RevisionFolder, *, paused: bool) -> CachedModel:
    entry = CachedModel(source=folder.source, revision=revision.commit, path=str(revision.root))
    listing = revision.listing()
    if listing is not None:
        entry.bytes_total = listing.bytes_total
        entry.bytes_done = revision.bytes_done(listing)
    if listing is not None and revision.is_complete(listing):
        entry.state = CachedModel.STATE_COMPLETE
    else:
        entry.state = CachedModel.STATE_PAUSED if paused else CachedModel.STATE_PARTIAL
    return entry
