"""Beside a recipe: which revision each deployment that uses it serves, and why where its manifest names another."""

from collections.abc import Iterable

from studio.v1.deployment_pb2 import Deployment, Rollout

from studio_cli.views.rollout import between, phase_of

TRIED = frozenset({Rollout.PHASE_SURGE, Rollout.PHASE_CANARY, Rollout.PHASE_REPLACE, Rollout.PHASE_PAUSED})


def use_lines(name: str, deployments: Iterable[Deployment]) -> list[str]:
    """A comment of a manifest for each deployment of the recipe ``name``, in the order of their names."""
    own = sorted((one for one in deployments if one.spec.recipe == name), key=lambda one: one.name)
    # What an engine said of itself may have several lines.
    return [f"# {one.name} {' '.join(_use(one).split())}" for one in own]


def _use(deployment: Deployment) -> str:
    rollout = deployment.rollout
    if rollout.phase in TRIED:
        return f"is on its way: {between(rollout)} {phase_of(rollout)}: {rollout.reason}"
    if rollout.phase == Rollout.PHASE_ROLLED_BACK and deployment.target_revision != rollout.to_revision:
        old = f"r{rollout.from_revision}"
        where = old if rollout.from_recipe == rollout.to_recipe else f"{old} of {rollout.from_recipe}"
        return f"serves {where}; r{rollout.to_revision} was rolled back: {rollout.reason}"
    verb = "is stopped; it would serve" if deployment.stopped else "serves"
    pinned = ", which it pins" if deployment.spec.recipe_revision else ""
    return f"{verb} r{deployment.target_revision}{pinned}"
