"""Revisions that operators name: each has a fate, which shows when its engine starts or when its canary is watched."""

from collections.abc import Iterable
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING

from fakes.world import stamp
from studio.v1.deployment_pb2 import Deployment
from studio.v1.recipe_pb2 import Recipe
from studio_coordinator.plan.canary import Figures, Watched
from studio_coordinator.plan.rollout import (
    CANARY,
    DONE,
    MOVING,
    PAUSED,
    ROLLED_BACK,
    SURGE,
    moved,
)

from sim.cast import CAST
from sim.schedule import START

if TYPE_CHECKING:
    from sim.story import Story


class Fate(Enum):
    GOOD = "is good"
    FAILS = "does not start"
    ERRS = "answers with errors"


class Revisions:
    def __init__(self, story: "Story") -> None:
        self._story = story
        # A number is never given twice, not even after the database was restored.
        self._newest = 1
        self._fates: dict[tuple[str, int], Fate] = {}

    def new(self, name: str) -> int:
        """Another revision of a recipe is applied."""
        self._newest += 1
        rows = self._story.database.rows
        recipe = rows.recipes[name, self._newest] = Recipe()
        recipe.CopyFrom(rows.recipes[name, 1])
        fates = [Fate.GOOD, Fate.FAILS] + [Fate.ERRS] * CAST[name].watches_canaries
        self._fates[name, self._newest] = self._story.chance.choices(fates, [3, 1, 1][: len(fates)])[0]
        return self._newest

    def fate(self, name: str, revision: int) -> Fate:
        return self._fates.get((name, revision), Fate.GOOD)

    def starts(self, name: str, revision: int) -> bool:
        return self.fate(name, revision) is not Fate.FAILS

    def watches(self, deployments: Iterable[Deployment], now: float) -> dict[str, Watched]:
        """What gateways see of canaries."""
        found = {}
        for deployment in deployments:
            rollout = deployment.rollout
            if rollout.phase == CANARY:
                since = (rollout.since.ToDatetime() - START.replace(tzinfo=None)).total_seconds()
                errs = self.fate(deployment.name, rollout.to_revision) is Fate.ERRS
                new = Figures(20, 10 if errs else 0)
                found[deployment.name] = Watched(now - since, Figures(100, 0), new)
        return found

    def steer(self, deployment: Deployment) -> None:
        """An operator pauses what moves, lets what stands still go on, or undoes it."""
        rollout, now = deployment.rollout, stamp(START + timedelta(seconds=self._story.schedule.now))
        undo = self._story.chance.random() < 0.4
        if rollout.phase in MOVING:
            rollout.CopyFrom(moved(rollout, ROLLED_BACK if undo else PAUSED, "an operator", now))
        elif rollout.phase == PAUSED:
            deployment.tries += 1
            rollout.CopyFrom(moved(rollout, ROLLED_BACK if undo else rollout.paused_in, "an operator", now))
        elif rollout.phase == ROLLED_BACK and undo:
            deployment.tries += 1
            rollout.CopyFrom(moved(rollout, SURGE, "an operator", now))
        elif rollout.phase == DONE and undo and self.fate(deployment.name, rollout.from_revision) is Fate.GOOD:
            rollout.CopyFrom(moved(rollout, ROLLED_BACK, "an operator", now))

    def let_end(self, deployment: Deployment) -> Deployment:
        """What stands still is undone, so that everything can come to rest."""
        changed = Deployment()
        changed.CopyFrom(deployment)
        if changed.rollout.phase == PAUSED or (
            changed.rollout.phase in MOVING and changed.spec.rollout.on_failure == "pause"
        ):
            now = stamp(START + timedelta(seconds=self._story.schedule.now))
            changed.rollout.CopyFrom(moved(changed.rollout, ROLLED_BACK, "everything is left alone", now))
        return changed

    def is_hopeless(self, deployment: Deployment) -> bool:
        """Whether what is to serve cannot: it was named while nothing of an older revision served."""
        rollout = deployment.rollout
        revision = rollout.from_revision if rollout.phase == ROLLED_BACK else deployment.target_revision
        return not self.starts(deployment.name, revision)
