"""`ModelFacts` as plain values and back, so that they can be kept.

A document that another release wrote, with more, fewer or other fields, does not read: the model is read again then.
"""

from dataclasses import asdict, fields
from typing import Any

from studio_coordinator.plan.memory.facts import (
    AttentionCache,
    Cache,
    Experts,
    LatentCache,
    LayerWeights,
    ModelFacts,
    StateCache,
    WeightFacts,
)
from studio_coordinator.plan.memory.parts import Source

_CACHES: dict[str, type[AttentionCache] | type[LatentCache] | type[StateCache]] = {
    "attention": AttentionCache,
    "latent": LatentCache,
    "state": StateCache,
}
_KINDS = {kind: name for name, kind in _CACHES.items()}


def to_document(facts: ModelFacts) -> dict[str, Any]:
    """`facts` as JSON values."""
    document = asdict(facts)
    document["caches"] = [[{"kind": _KINDS[type(cache)], **asdict(cache)} for cache in layer] for layer in facts.caches]
    document["weights"]["source"] = facts.weights.source.value
    document["weights"]["layers"] = [list(asdict(layer).values()) for layer in facts.weights.layers]
    document["unknown"] = list(facts.unknown)
    return document


def from_document(document: dict[str, Any]) -> ModelFacts | None:
    """The facts; None when the document is not of this release."""
    try:
        values = _exactly(ModelFacts, document)
        weights = _exactly(WeightFacts, values["weights"])
        weights["source"] = Source(weights["source"])
        weights["layers"] = tuple(LayerWeights(*layer) for layer in weights["layers"])
        values["weights"] = WeightFacts(**weights)
        values["caches"] = tuple(tuple(_cache(cache) for cache in layer) for layer in values["caches"])
        if values["experts"] is not None:
            values["experts"] = Experts(**_exactly(Experts, values["experts"]))
        values["unknown"] = tuple(values["unknown"])
        return ModelFacts(**values)
    except (KeyError, TypeError, ValueError):
        return None


def _cache(document: dict[str, Any]) -> Cache:
    values = dict(document)
    kind = _CACHES[values.pop("kind")]
    return kind(**_exactly(kind, values))


def _exactly(kind: type[Any], document: dict[str, Any]) -> dict[str, Any]:
    """A copy of `document`, which has the fields of `kind` and no other. Raises ValueError."""
    if set(document) != {field.name for field in fields(kind)}:
        raise ValueError(kind.__name__)
    return dict(document)
