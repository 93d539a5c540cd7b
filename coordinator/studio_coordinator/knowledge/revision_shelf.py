"""Recipe revisions as they take effect. A revision is never changed, so each is read once."""

from collections.abc import Collection

from studio.v1.recipe_pb2 import Recipe

from studio_coordinator.plan.presets import effective
from studio_coordinator.store import recipes
from studio_coordinator.store.database import Connection

RevisionKey = tuple[str, int]


class RevisionShelf:
    """Holds the revisions that were asked for last, and no others."""

    def __init__(self) -> None:
        # Of which leader's term: in a database that was restored a number may be another's.
        self._term = 0
        self._known: dict[RevisionKey, Recipe] = {}

    async def get(self, conn: Connection, wanted: Collection[RevisionKey], term: int) -> dict[RevisionKey, Recipe]:
        """Those of the (name, revision) pairs that there are, with their presets written out. Values: never changed."""
        kept = {key: self._known[key] for key in wanted if key in self._known} if term == self._term else {}
        if missing := set(wanted) - kept.keys():
            written = await recipes.revisions(conn, missing)
            kept |= {key: effective(recipe) for key, recipe in written.items()}
        self._known, self._term = kept, term
        return dict(kept)
