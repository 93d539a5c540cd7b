"""Which beginnings of prompts were seen before, so that the cache metrics move as an engine's do."""

from collections import OrderedDict
from collections.abc import Sequence

BLOCK_TOKENS = 16
CAPACITY_BLOCKS = 4096


class PrefixCache:
    """Remembers prompts by blocks of tokens; the longest unused blocks are forgotten first."""

    def __init__(self) -> None:
        self._blocks: OrderedDict[int, None] = OrderedDict()

    def look_up(self, token_ids: Sequence[int]) -> int:
        """The number of leading tokens that were cached; the whole prompt is cached from now on."""
        hit_tokens = 0
        prefix = 0
        unbroken = True
        for start in range(0, len(token_ids) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
            prefix = hash((prefix, tuple(token_ids[start : start + BLOCK_TOKENS])))
            unbroken = unbroken and prefix in self._blocks
            hit_tokens += BLOCK_TOKENS if unbroken else 0
            self._blocks[prefix] = None
            self._blocks.move_to_end(prefix)
        while len(self._blocks) > CAPACITY_BLOCKS:
            self._blocks.popitem(last=False)
        return hit_tokens

    def clear(self) -> None:
        """Forget everything, as sleeping does."""
        self._blocks.clear()
