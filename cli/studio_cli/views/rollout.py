"""``studio rollout status``: between which revisions, how far, and how both do."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from studio.v1.deployment_pb2 import Deployment, Rollout, TrafficFigures
from studio.v1.replica_pb2 import Replica

from studio_cli import wording

# What an operator may do next, by phase.
NEXT = {
    Rollout.PHASE_SURGE: ("pause", "undo"),
    Rollout.PHASE_CANARY: ("pause", "resume", "undo"),
    Rollout.PHASE_REPLACE: ("pause", "undo"),
    Rollout.PHASE_PAUSED: ("resume", "undo"),
    Rollout.PHASE_ROLLED_BACK: ("resume",),
    Rollout.PHASE_DONE: ("undo",),
}


def phase_of(rollout: Rollout) -> str:
    """``ROLLED BACK``; a paused one says where."""
    name = _name(rollout.phase)
    return f"{name} in {_name(rollout.paused_in)}" if rollout.phase == Rollout.PHASE_PAUSED else name


def rollout_lines(deployment: Deployment, replicas: Sequence[Replica], now: datetime) -> Iterator[str]:
    """The story, line by line."""
    if not deployment.HasField("rollout"):
        yield f"{deployment.name}: r{deployment.target_revision}, which never took another revision's place"
        return
    rollout = deployment.rollout
    since = f" for {wording.age(rollout.since, now)}" if rollout.since.seconds else ""
    yield f"{deployment.name}  {between(rollout)}  {phase_of(rollout)}{since}: {rollout.reason}"
    yield _side("old", rollout.from_recipe, rollout.from_revision, replicas, rollout.old_figures)
    yield _side("new", rollout.to_recipe, rollout.to_revision, replicas, rollout.new_figures)
    orders = NEXT.get(rollout.phase, ())
    if orders:
        yield "  next  " + " · ".join(f"studio rollout {order} {deployment.name}" for order in orders)


def between(rollout: Rollout) -> str:
    """``r7 → r8``; with the recipes where it changes from one to another."""
    old, new = f"r{rollout.from_revision}", f"r{rollout.to_revision}"
    if rollout.from_recipe != rollout.to_recipe:
        old, new = f"{rollout.from_recipe} {old}", f"{rollout.to_recipe} {new}"
    return f"{old} → {new}"


def progress_line(deployment: Deployment, replicas: Sequence[Replica]) -> str:
    """One line, for a step that goes on."""
    rollout = deployment.rollout
    new = [
        row for row in replicas if (row.recipe_name, row.recipe_revision) == (rollout.to_recipe, rollout.to_revision)
    ]
    ready = sum(row.state == Replica.STATE_READY for row in new)
    return f"{between(rollout)} {phase_of(rollout)}, {ready} of {deployment.wanted_replicas} replaced: {rollout.reason}"


def _side(word: str, recipe: str, revision: int, replicas: Sequence[Replica], figures: TrafficFigures) -> str:
    own = [row for row in replicas if (row.recipe_name, row.recipe_revision) == (recipe, revision)]
    ready = sum(row.state == Replica.STATE_READY for row in own)
    line = f"  {word}   r{revision}  {wording.count_of(len(own), 'replica')}, {ready} ready"
    if figures.requests:
        line += f"; while watched {wording.count_of(figures.requests, 'request')}, {figures.failed} failed"
    if figures.HasField("time_to_first_token_p50_seconds"):
        line += f", first token after {figures.time_to_first_token_p50_seconds:.3g} s"
    return line


def _name(phase: Rollout.Phase.ValueType) -> str:
    return Rollout.Phase.Name(phase).removeprefix("PHASE_").replace("_", " ")
