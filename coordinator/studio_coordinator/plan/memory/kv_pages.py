"""What one block of one layer's cache takes on one rank.

Sources: vLLM `v1/kv_cache_interface.py` (page sizes), `platforms/interface.py` (`_align_hybrid_block_size`).
"""

from dataclasses import dataclass, replace
from enum import Enum

from studio_coordinator.plan.memory.facts import AttentionCache, Cache, LatentCache, ModelFacts, StateCache
from studio_coordinator.plan.memory.settings import Question
from studio_coordinator.plan.memory.sizes import ceil_div, element_bytes
from studio_coordinator.plan.memory.weights import activation_bytes

# Bytes of one token of one MLA layer in the packed cache types (512 + 64 elements and their scales).
_PACKED_LATENT = {"fp8_ds_mla": 656, "nvfp4_ds_mla": 352}
# Bytes per element of the block-scaled types, scales included.
_SCALED = {"nvfp4": 0.5 + 1 / 16, "nvfp4_4over6": 0.5 + 1 / 16, "mxfp8": 1 + 1 / 32, "fp4_mx_block16": 0.5 + 1 / 16}
_LATENT_ALIGNMENT = 128
_OLD_LATENT_ALIGNMENT = 64
_ALIGNMENT_CHANGED = (0, 26, 0)


class Retention(Enum):
    """How many blocks a request keeps in a layer as it grows."""

    ALL = "all tokens"
    WINDOW = "the last tokens"
    CHUNK = "the current chunk"
    STATE = "one state"


@dataclass(frozen=True)
class Page:
    """One block of one layer. `span` is the window or chunk in tokens; pages of equal value can share a group."""

    retention: Retention
    span: int
    block_tokens: int
    bytes: int


def layer_pages(facts: ModelFacts, question: Question) -> tuple[tuple[Page, ...], ...]:
    """The pages of each decoder layer on one rank; layers with equal pages hold equal values."""
    pages = tuple(tuple(cache_page(cache, facts, question) for cache in layer) for layer in facts.caches)
    if facts.hybrid:
        pages = _align_state(facts, question, pages)
    return _unify(pages)


def unknown_cache_type(question: Question) -> str:
    """A line for the list of unknowns when the KV cache type has no known width; else empty."""
    name = question.cache_type
    if _element_width(name, 2.0, 128) is None and name not in _PACKED_LATENT:
        return f"kv cache type {name!r}: counted as 16 bits per element"
    return ""


def cache_page(cache: Cache, facts: ModelFacts, question: Question) -> Page:
    """One block of one cache on one rank, before pages are made equal."""
    block = question.block_tokens
    model = activation_bytes(facts, question)
    name = question.cache_type
    match cache:
        case AttentionCache():
            heads = max(1, cache.kv_heads // question.tensor_parallel)
            keys = cache.head_dim * (_element_width(name, model, cache.head_dim) or 2)
            values = cache.v_head_dim * (_element_width(name, model, cache.v_head_dim) or 2)
            size = int(block * heads * (keys + values))
            if cache.window:
                return Page(Retention.WINDOW, cache.window, block, size)
            if cache.chunk:
                return Page(Retention.CHUNK, cache.chunk, block, size)
            return Page(Retention.ALL, 0, block, size)
        case LatentCache():
            width = _element_width(name, model, cache.latent_dim) or 2
            token = _PACKED_LATENT.get(name, cache.latent_dim * width)
            indexer = cache.index_dim + cache.index_dim / 128 * 4
            return Page(Retention.ALL, 0, block, int(block * (token + indexer)))
        case StateCache():
            ranks = question.tensor_parallel
            groups = cache.groups
            if groups and groups % ranks:
                groups = ranks
            channels = (cache.conv_channels + groups * cache.group_channels) // ranks
            window = channels * (cache.conv_kernel - 1 + question.settings.speculative_tokens)
            state_width = element_bytes(cache.state_type) or model
            if question.on_cpu and not cache.groups and not cache.state_type:
                state_width = 4  # the CPU's delta-net kernels keep their state in float32
            return Page(Retention.STATE, 0, 0, int(window * model + cache.state_elements // ranks * state_width))


def _element_width(name: str, model: float, head_dim: int) -> float | None:
    if name in {"auto", ""}:
        return model
    if name.endswith("_per_token_head"):
        bits = {"int4": 0.5, "int8": 1.0, "fp8": 1.0}.get(name.split("_", maxsplit=1)[0])
        return None if bits is None else bits + 4 / head_dim
    return _SCALED.get(name) or element_bytes(name)


def _align_state(
    facts: ModelFacts, question: Question, pages: tuple[tuple[Page, ...], ...]
) -> tuple[tuple[Page, ...], ...]:
    """Longer attention blocks, until one holds a state; the state is padded to exactly one block."""
    state = max(page.bytes for layer in pages for page in layer if page.retention is Retention.STATE)
    attention = [page for layer in pages for page in layer if page.retention is not Retention.STATE]
    if not attention:
        return pages
    token_bytes = max(page.bytes / page.block_tokens for page in attention)
    alignment = question.block_tokens
    if facts.latent:
        alignment = max(
            alignment, _OLD_LATENT_ALIGNMENT if question.release < _ALIGNMENT_CHANGED else _LATENT_ALIGNMENT
        )
    block = max(question.block_tokens, alignment * ceil_div(state, int(alignment * token_bytes)))

    def aligned(page: Page) -> Page:
        if page.retention is Retention.STATE:
            return replace(page, bytes=int(block * token_bytes), block_tokens=block)
        return replace(page, block_tokens=block, bytes=page.bytes // page.block_tokens * block)

    return tuple(tuple(aligned(page) for page in layer) for layer in pages)


def _unify(pages: tuple[tuple[Page, ...], ...]) -> tuple[tuple[Page, ...], ...]:
    """Equal page sizes where windows and full attention are mixed: longer blocks for smaller pages, else padding."""
    flat = [page for layer in pages for page in layer]
    kinds = {(page.retention, page.span) for page in flat}
    largest = max((page.bytes for page in flat), default=0)
    if len(kinds) <= 1 or all(page.bytes == largest for page in flat):
        return pages

    def unified(page: Page) -> Page:
        if page.bytes and page.retention is not Retention.STATE and largest % page.bytes == 0:
            return replace(page, block_tokens=page.block_tokens * (largest // page.bytes), bytes=largest)
        return replace(page, bytes=largest)

    return tuple(tuple(unified(page) for page in layer) for layer in pages)
