"""The pool of KV blocks: how layers are grouped, how many blocks a budget gives, and what one request takes.

All layers with one kind of retention: one group, and a block holds a page of every layer. Otherwise layers of one kind are
cut into groups of equal size, each with its own block table, and all groups draw from one pool of blocks that hold
`group size` pages. The group size is the smallest number of layers of any kind, or the largest where that is less than
1.5 times the smallest (vLLM `_get_kv_cache_groups_uniform_page_size`). With pipeline stages the groups are made for the whole
model, and a stage's block holds the pages of the layers that it has.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from studio_coordinator.plan.memory.facts import ModelFacts
from studio_coordinator.plan.memory.kv_pages import Page, Retention, layer_pages
from studio_coordinator.plan.memory.parallel import Stage
from studio_coordinator.plan.memory.settings import Question
from studio_coordinator.plan.memory.sizes import ceil_div

_PADDING_TOLERATED = 1.5


@dataclass(frozen=True)
class Group:
    """Layers that share a block table. `page` is the page of any of them."""

    page: Page
    layers: tuple[int, ...]


@dataclass(frozen=True)
class KvPool:
    """The pool of one rank of one stage."""

    groups: tuple[Group, ...]
    block_bytes: int
    question: Question

    def blocks(self, budget_bytes: int) -> int:
        """Blocks that `budget_bytes` hold."""
        return max(0, budget_bytes) // self.block_bytes if self.block_bytes else 0

    def request_blocks(self, tokens: int) -> int:
        """Blocks that one request of `tokens` tokens takes at most."""
        return sum(self._group_blocks(group.page, tokens) for group in self.groups)

    def concurrency(self, blocks: int, max_model_len: int) -> float:
        """Requests of full length that fit at the same time."""
        needed = self.request_blocks(max_model_len)
        return blocks / needed if needed else 0.0

    def tokens(self, blocks: int, max_model_len: int) -> int:
        """What the engine logs as the size of its KV cache; its meaning depends on the version."""
        if self.question.rules.tokens_from_concurrency:
            return int(self.concurrency(blocks, max_model_len) * max_model_len)
        shortest = min((group.page.block_tokens for group in self.groups), default=0)
        return blocks // max(1, len(self.groups)) * shortest

    def token_bytes(self, max_model_len: int) -> float:
        """Bytes of the pool per token of `tokens`, so that budget / token_bytes is about `tokens`."""
        if not self.groups:
            return 0.0
        if self.question.rules.tokens_from_concurrency and len(self.groups) > 1:
            return self.block_bytes * self.request_blocks(max_model_len) / max_model_len
        shortest = min(group.page.block_tokens for group in self.groups)
        return self.block_bytes * len(self.groups) / max(1, shortest)

    def longest_request(self, blocks: int, most_tokens: int) -> int:
        """The longest request, up to `most_tokens`, for which `blocks` suffice; 0 when not even one token fits."""
        low, high = 0, most_tokens
        while low < high:
            middle = (low + high + 1) // 2
            if self.request_blocks(middle) <= blocks:
                low = middle
            else:
                high = middle - 1
        return low

    def _group_blocks(self, page: Page, tokens: int) -> int:
        match page.retention:
            case Retention.ALL:
                return ceil_div(tokens, page.block_tokens)
            case Retention.WINDOW:
                kept = min(page.span - 1 + self.question.in_flight_tokens, tokens)
                return ceil_div(kept, page.block_tokens) + 1
            case Retention.CHUNK:
                return ceil_div(min(page.span + self.question.in_flight_tokens, tokens), page.block_tokens)
            case Retention.STATE:
                settings = self.question.settings
                # Prefixes are cached only where there is attention beside the states.
                cached = settings.prefix_caching and self.question.rules.hybrid_prefix_caching and len(self.groups) > 1
                return 1 + settings.speculative_tokens + (1 if cached else 0)


def kv_pool(facts: ModelFacts, question: Question, stage: Stage, max_model_len: int) -> KvPool:
    """The pool of one rank of `stage`."""
    pages = layer_pages(facts, question)
    numbered = [(layer, page) for layer, kept in enumerate(pages) for page in kept]
    by_kind: dict[tuple[Retention, int], list[tuple[int, Page]]] = defaultdict(list)
    for layer, page in numbered:
        by_kind[page.retention, page.span].append((layer, page))
    if len(by_kind) <= 1:
        held = sum(page.bytes for layer, page in numbered if stage.first <= layer < stage.last)
        groups = tuple(
            Group(_with_block(kept[0][1], max_model_len), tuple(layer for layer, _ in kept))
            for kept in by_kind.values()
        )
        return KvPool(groups, held, question)
    groups = _grouped(list(by_kind.values()))
    page_bytes = max(page.bytes for _, page in numbered)
    widest = max(sum(stage.first <= layer < stage.last for layer in group.layers) for group in groups)
    return KvPool(groups, widest * page_bytes, question)


def _grouped(kinds: Sequence[Sequence[tuple[int, Page]]]) -> tuple[Group, ...]:
    counts = [len(kept) for kept in kinds]
    size = max(counts) if max(counts) < min(counts) * _PADDING_TOLERATED else min(counts)
    groups: list[Group] = []
    for kept in kinds:
        number = ceil_div(len(kept), size)
        layers = [layer for layer, _ in kept]
        groups.extend(Group(kept[0][1], tuple(layers[start::number])) for start in range(number))
    return tuple(groups)


def _with_block(page: Page, max_model_len: int) -> Page:
    """A model that only keeps states has one block per request, however long."""
    if page.retention is not Retention.STATE or page.block_tokens:
        return page
    return Page(page.retention, page.span, max_model_len, page.bytes)
