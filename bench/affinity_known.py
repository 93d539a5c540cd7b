"""What it would be worth to know each engine's cache, as KV events tell it: ``python bench/affinity_known.py``.

The workload of ``bench/affinity.py`` in simulated time, with the gateway's own picking, against a picker that sees every cache at
every moment: it takes the longest cached beginning among the endpoints below the same load bound. That is more than events could
tell, which come late and of which some are lost. Caches of several sizes: what was evicted is what hashing cannot know.
"""

import copy
import heapq
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from affinity import (
    AT_ONCE,
    CONVERSATIONS,
    ENGINES,
    FIRST_PROMPT_WORDS,
    PREFILL_TOKENS_PER_SECOND,
    TURN_WORDS,
    TURNS,
    words,
)
from studio_agent.demo_engine import prefix_cache
from studio_agent.demo_engine.prefix_cache import BLOCK_TOKENS, PrefixCache
from studio_gateway.affinity import prefix_of, work_of
from studio_gateway.pick import LOAD_BOUND, Picker, Wish
from studio_gateway.strategies import LEAST_WORK, PREFIX_AFFINITY
from studio_gateway.table import Target

ANSWER_WORDS = 24
THINKING_SECONDS = 0.2
KNOWN = "every cache known"
# Of each engine, in tokens. The conversations have 46,000 in the end, an even part of them is 11,500.
CACHES = (65_536, 12_288, 8_192, 4_096)


@dataclass(frozen=True)
class Turn:
    """One prompt: a token is a word; and what the gateway makes of it."""

    tokens: list[str]
    wish: Wish


def turns_of(chance: random.Random, strategy: str) -> Iterator[Turn]:
    """One conversation: each turn repeats all before it."""
    messages = [{"role": "system", "content": words(chance, FIRST_PROMPT_WORDS)}]
    for _ in range(TURNS):
        messages.append({"role": "user", "content": words(chance, TURN_WORDS)})
        work = work_of(len(json.dumps(messages)))
        tokens = [word for one in messages for word in one["content"].split()]
        yield Turn(tokens, Wish(work, strategy, prefix=prefix_of({"messages": messages})))
        messages.append({"role": "assistant", "content": words(chance, ANSWER_WORDS)})


class Simulation:
    """One strategy with caches of one size; times in seconds since its start."""

    def __init__(self, strategy: str, cache_tokens: int) -> None:
        prefix_cache.CAPACITY_BLOCKS = cache_tokens // BLOCK_TOKENS
        self.strategy = strategy
        self.hits = 0
        self.asked = 0
        self.waits: list[float] = []
        self._picker = Picker()
        self._targets = [Target(f"tiny-{number}", "", 1.0, "tiny", 1) for number in range(ENGINES)]
        self._caches = {one.replica_id: PrefixCache() for one in self._targets}
        self._running = 0
        self._queue: list[Callable[[float], None]] = []
        # What happens when; at one time, in the order in which it was planned.
        self._agenda: list[tuple[float, int, Callable[[float], None]]] = []
        self._planned = 0

    def run(self) -> None:
        """All conversations, as many requests at once as the gate lets in."""
        for seed in range(CONVERSATIONS):
            chance = random.Random(seed)
            self._at(0.0, partial(self._go_on, turns_of(chance, self.strategy), chance))
        while self._agenda:
            moment, _, happens = heapq.heappop(self._agenda)
            happens(moment)

    def _at(self, moment: float, happens: Callable[[float], None]) -> None:
        self._planned += 1
        heapq.heappush(self._agenda, (moment, self._planned, happens))

    def _go_on(self, turns: Iterator[Turn], chance: random.Random, now: float) -> None:
        turn = next(turns, None)
        if turn is None:
            return
        begin = partial(self._begin, turn, turns, chance)
        if self._running < AT_ONCE:
            begin(now)
        else:
            self._queue.append(begin)

    def _begin(self, turn: Turn, turns: Iterator[Turn], chance: random.Random, now: float) -> None:
        self._running += 1
        replica_id = self._pick(turn, now)
        hits = self._caches[replica_id].look_up([hash(token) for token in turn.tokens])
        seconds = (len(turn.tokens) - hits) / PREFILL_TOKENS_PER_SECOND
        self.hits += hits
        self.asked += len(turn.tokens)
        self.waits.append(seconds)
        self._picker.standings.of(replica_id).began(turn.wish.work)
        self._at(now + seconds, partial(self._end, turn, replica_id, turns, chance))

    def _end(self, turn: Turn, replica_id: str, turns: Iterator[Turn], chance: random.Random, now: float) -> None:
        self._running -= 1
        self._picker.standings.of(replica_id).ended(turn.wish.work)
        self._at(now + chance.uniform(0, THINKING_SECONDS), partial(self._go_on, turns, chance))
        if self._queue:
            self._queue.pop(0)(now)

    def _pick(self, turn: Turn, now: float) -> str:
        if self.strategy != KNOWN:
            return self._picker.pick(self._targets, (), now, turn.wish).replica_id
        loads = {name: self._picker.standings.of(name).work + turn.wish.work for name in self._caches}
        bound = LOAD_BOUND * sum(loads.values()) / len(loads)
        allowed = [name for name, load in loads.items() if load <= bound]
        return max(allowed, key=lambda name: (self._held(name, turn), -loads[name]))

    def _held(self, replica_id: str, turn: Turn) -> int:
        """How many leading tokens a cache has; a copy is asked, for asking changes it."""
        return copy.deepcopy(self._caches[replica_id]).look_up([hash(token) for token in turn.tokens])


def main() -> None:
    """Simulate and print."""
    print(f"{'tokens per cache':>16}  {'strategy':<18} {'hit rate':>8} {'TTFT mean':>10}")
    for size in CACHES:
        for strategy in (LEAST_WORK, PREFIX_AFFINITY, KNOWN):
            simulation = Simulation(strategy, size)
            simulation.run()
            share, mean = simulation.hits / simulation.asked, sum(simulation.waits) / len(simulation.waits)
            print(f"{size:>16,}  {strategy:<18} {share:>8.1%} {mean * 1000:>7.1f} ms")


if __name__ == "__main__":
    main()
