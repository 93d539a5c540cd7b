"""The fleet's endpoints as deployments of a router of LiteLLM, and what a new table changes of them ★."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from studio_gateway.table import Model, Routes


@dataclass(frozen=True, slots=True)
class Held:
    """One deployment: an endpoint under one of its model's names."""

    # The replica's; a further name of the same replica is told apart by the name.
    id: str
    # What requests ask the router for.
    name: str
    replica_id: str
    # The name that the engine answers to, and scheme://host:port.
    engine_model: str
    base_url: str
    recipe_revision: int
    weight: float


@dataclass(frozen=True, slots=True)
class Changes:
    """What makes a router hold other deployments: new ones are there before old ones go."""

    put: tuple[Held, ...]
    drop: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.put or self.drop)


def through_litellm(routes: Routes | None) -> list[Model]:
    """The models of the fleet whose requests go through LiteLLM, each once."""
    models = [] if routes is None else routes.by_name.values()
    return list({model.name: model for model in models if model.is_through_litellm}.values())


def deployments_of(models: Iterable[Model], *, with_aliases: bool = False) -> dict[str, Held]:
    """One deployment for each endpoint of ``models``, by id; with their aliases as names of their own if they are wanted."""
    held: dict[str, Held] = {}
    for model in models:
        for name in (model.name, *(model.aliases if with_aliases else ())):
            for target in model.targets:
                replica_id = target.replica_id
                deployment_id = f"{replica_id}/{name}" if replica_id in held else replica_id
                held[deployment_id] = Held(
                    id=deployment_id,
                    name=name,
                    replica_id=replica_id,
                    engine_model=target.engine_model,
                    base_url=target.base_url,
                    recipe_revision=target.recipe_revision,
                    weight=target.weight,
                )
    return held


def changes(present: Mapping[str, Held], wanted: Mapping[str, Held]) -> Changes:
    """What turns ``present`` into ``wanted``."""
    put = tuple(one for one in wanted.values() if present.get(one.id) != one)
    return Changes(put, tuple(one for one in present if one not in wanted))
