"""A model with what guesses its next tokens: a draft model beside it, or a prediction layer of its own.

A draft's layers keep caches in the same pool as the model's, for every token of every request. An engine that guesses from what
was said before (`ngram`, `suffix`) holds nothing more.
"""

from dataclasses import replace

from studio_coordinator.plan.memory.facts import Cache, LayerWeights, ModelFacts, StateCache
from studio_coordinator.plan.memory.sizes import element_bytes


def with_draft(facts: ModelFacts, draft: ModelFacts) -> ModelFacts:
    """Both together, as one model of as many layers as they have."""
    weights = facts.weights
    around = draft.weights.embedding_bytes + draft.weights.head_bytes + draft.weights.tower_bytes
    both = replace(
        weights,
        layers=(*weights.layers, *draft.weights.layers),
        tower_bytes=weights.tower_bytes + around,
        relative_error=max(weights.relative_error, draft.weights.relative_error),
    )
    unknown = tuple(f"draft model: {line}" for line in draft.unknown)
    return replace(facts, weights=both, caches=(*facts.caches, *draft.caches), unknown=(*facts.unknown, *unknown))


def with_prediction_layer(facts: ModelFacts) -> ModelFacts:
    """With one prediction layer: the last of its layers with attention once more, and a projection of two states into one."""
    layer = next(
        (at for at in reversed(range(facts.layers)) if _attends(facts.caches[at])),
        facts.layers - 1,
    )
    like = facts.weights.layers[layer]
    width = element_bytes(facts.element_type) or 2
    projection = int(2 * facts.hidden_size * facts.hidden_size * width)
    added = LayerWeights(like.split_bytes, like.key_value_bytes, like.whole_bytes + projection, like.expert_bytes)
    weights = replace(facts.weights, layers=(*facts.weights.layers, added))
    return replace(facts, weights=weights, caches=(*facts.caches, facts.caches[layer]))


def _attends(caches: tuple[Cache, ...]) -> bool:
    return bool(caches) and not any(isinstance(cache, StateCache) for cache in caches)
