"""What the slots of LoRA adapters take: reserved at start, for the largest rank, whether an adapter is in them or not.

For a linear layer of in x out, rank r and n slots, vLLM's `lora/layers` keep n x r x (in + out) elements of the model's type.
Tensor parallelism divides the outer side alone: the output of projections that spread the hidden state, the input of those that
gather it. Projections that are merged (q, k, v; gate and up) have an inner side each. Every expert has its own.
"""

from studio_coordinator.plan.memory.facts import AttentionCache, ModelFacts
from studio_coordinator.plan.memory.parallel import Stage
from studio_coordinator.plan.memory.settings import Question
from studio_coordinator.plan.memory.sizes import element_bytes


def adapter_slots(facts: ModelFacts, question: Question, stage: Stage) -> int:
    """Bytes of all slots on one rank of `stage`; 0 where no adapters are enabled."""
    settings = question.settings
    if not settings.lora_slots:
        return 0
    elements = sum(_layer(facts, question, layer) for layer in range(stage.first, stage.last))
    outer = facts.vocabulary // question.tensor_parallel + facts.hidden_size
    elements += outer * (stage.is_first + stage.is_last)
    width = element_bytes(settings.element_type or facts.element_type) or 2
    return int(settings.lora_slots * settings.lora_rank * elements * width)


def _layer(facts: ModelFacts, question: Question, layer: int) -> int:
    """Elements of one rank of an adapter's projections in one layer, on one tensor-parallel rank."""
    ranks, hidden = question.tensor_parallel, facts.hidden_size
    elements = 0
    for cache in facts.caches[layer]:
        if isinstance(cache, AttentionCache):
            query = facts.attention_heads * cache.head_dim // ranks
            key_value = max(1, cache.kv_heads // ranks) * (cache.head_dim + cache.v_head_dim)
            elements += 3 * hidden + query + key_value + query + hidden
        else:
            # Latent attention and fixed states project to about twice the hidden size and back.
            elements += 4 * hidden + 4 * hidden // ranks
    experts = facts.experts
    if experts is None or not facts.weights.layers[layer].expert_bytes:
        inner = facts.intermediate_size // ranks
        return elements + 2 * (hidden + inner) + inner + hidden
    data_ranks = question.settings.data_parallel
    if question.settings.expert_parallel:
        count, inner = -(-experts.count // (ranks * data_ranks)), experts.intermediate_size
    else:
        count, inner = experts.count, experts.intermediate_size // ranks
    return elements + count * (2 * (hidden + inner) + inner + hidden)
