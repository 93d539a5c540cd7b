"""What each recipe takes on the GPUs of this fleet: worked out once, until the model, the fleet or a measurement changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import is_not

import structlog
from studio.v1.host_pb2 import Host
from studio.v1.recipe_pb2 import Recipe

from studio_coordinator.knowledge.library import ModelLibrary
from studio_coordinator.knowledge.measurements import Measurements
from studio_coordinator.plan.memory.engine_rules import TESTED_VERSION
from studio_coordinator.plan.memory.errors import EstimateError
from studio_coordinator.plan.memory.facts import ModelFacts
from studio_coordinator.plan.sizing import GpuKind, Sizing, draft_source, gpu_kinds, needs_facts, size, with_speculation
from studio_coordinator.store.recipes import digest_of

log = structlog.get_logger()

MOST_REMEMBERED = 4096

RecipeKey = tuple[str, int]


@dataclass(frozen=True)
class _Answer:
    facts: ModelFacts
    draft: ModelFacts | None
    kinds: Mapping[GpuKind, int]
    measurements: int
    sizing: Sizing


class SizeBook:
    """Looks facts up in the library, and estimates."""

    def __init__(self, library: ModelLibrary, measurements: Measurements) -> None:
        self._library = library
        self._measurements = measurements
        # By the whole recipe, so that one that is only planned is never taken for another.
        self._answers: dict[bytes, _Answer] = {}
        self._counted: list[Host] = []
        self._kinds: Mapping[GpuKind, int] = {}

    def sizes(self, recipes: Mapping[RecipeKey, Recipe], hosts: Sequence[Host]) -> dict[RecipeKey, Sizing]:
        """The needs of every recipe whose model has a say in them."""
        asking = {key: recipe for key, recipe in recipes.items() if needs_facts(recipe)}
        kinds = self._kinds_of(hosts) if asking else {}
        return {key: self._size(recipe, kinds) for key, recipe in asking.items() if kinds}

    def _kinds_of(self, hosts: Sequence[Host]) -> Mapping[GpuKind, int]:
        """The kinds of GPUs there are; the same answer while the hosts are the same objects."""
        if len(hosts) != len(self._counted) or any(map(is_not, hosts, self._counted)):
            self._counted, self._kinds = list(hosts), gpu_kinds(hosts)
        return self._kinds

    def _size(self, recipe: Recipe, kinds: Mapping[GpuKind, int]) -> Sizing:
        source, revision = recipe.model.source, recipe.model.revision
        facts = self._library.facts(source, revision)
        if facts is None:
            return Sizing(
                being_read=self._library.being_read(source, revision), note=self._library.problem(source, revision)
            )
        drafts = draft_source(recipe)
        draft = self._library.facts(drafts, "") if drafts else None
        if drafts and draft is None and self._library.being_read(drafts, ""):
            return Sizing(being_read=True)
        content = recipe.SerializeToString(deterministic=True)
        known = self._answers.get(content)
        version = self._measurements.version
        same_models = known is not None and known.facts is facts and known.draft is draft
        if known is not None and same_models and (known.kinds, known.measurements) == (kinds, version):
            return known.sizing
        engine_version = recipe.engine.version or TESTED_VERSION[recipe.engine.name]
        try:
            whole = with_speculation(recipe, facts, draft)
            sizing = size(recipe, whole, kinds, self._measurements.calibrations(digest_of(recipe), engine_version))
        except EstimateError as error:
            sizing = Sizing(note=error.message)
        except Exception:
            # A model that no formula foresaw must not stop the whole fleet; it is placed by what the recipe says.
            log.exception("model_not_estimated", source=source, revision=revision)
            sizing = Sizing(note="the estimate failed: see the coordinator's log")
        if len(self._answers) >= MOST_REMEMBERED:
            self._answers.clear()
        self._answers[content] = _Answer(facts, draft, kinds, version, sizing)
        return sizing
