"""The engine behind the API: a bounded number of answers at once, paced tokens, sleep."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from time import perf_counter

from studio_agent.demo_engine.metrics import EngineMetrics
from studio_agent.demo_engine.misbehaviour import ConnectionDropped, MemoryClaim
from studio_agent.demo_engine.prefix_cache import PrefixCache
from studio_agent.demo_engine.settings import Settings

KV_CAPACITY_TOKENS = 65_536
log = logging.getLogger(__name__)


class DemoEngine:
    """Gives out slots and tokens. One event loop owns it."""

    def __init__(self, settings: Settings, memory: MemoryClaim) -> None:
        self.settings = settings
        self.metrics = EngineMetrics(settings.model[0])
        self.sleep_level: int | None = None
        self._memory = memory
        self._slots = asyncio.Semaphore(settings.max_num_seqs)
        self._prefixes = PrefixCache()
        self._kv_tokens = 0

    def sleep(self, level: int) -> None:
        """Give the simulated memory back and answer nothing until woken."""
        self.sleep_level = level
        self._prefixes.clear()
        self._memory.release()
        self.metrics.set_sleep_level(level)
        log.info("It took 0.000000 seconds to fall asleep (level %d).", level)

    def wake_up(self) -> None:
        """Take the simulated memory again and answer."""
        self.sleep_level = None
        self._memory.take()
        self.metrics.set_sleep_level(None)
        log.info("It took 0.000000 seconds to wake up.")

    @asynccontextmanager
    async def slot(self, prompt_ids: Sequence[int]) -> AsyncIterator[None]:
        """Hold one of the slots; it is free again at once when the caller is cancelled."""
        self.metrics.waiting.inc()
        try:
            await self._slots.acquire()
        finally:
            self.metrics.waiting.dec()
        self.metrics.running.inc()
        self.metrics.prompt_tokens.inc(len(prompt_ids))
        self.metrics.prefix_queries.inc(len(prompt_ids))
        self.metrics.prefix_hits.inc(self._prefixes.look_up(prompt_ids))
        self._use_kv(len(prompt_ids))
        try:
            yield
        except BaseException:
            self.metrics.finished("abort")
            raise
        finally:
            self._use_kv(-len(prompt_ids))
            self.metrics.running.dec()
            self._slots.release()

    async def emit(self, tokens: Sequence[str], arrived: float) -> AsyncGenerator[str]:
        """Yield ``tokens`` at the set pace; ``arrived`` is the request's ``perf_counter`` time in seconds.

        Hangs, or raises ConnectionDropped, where the settings say so.
        """
        settings = self.settings
        if settings.health_lie == "ok":
            await asyncio.Event().wait()
        await asyncio.sleep(settings.prefill_seconds)
        pace = 1 / settings.tokens_per_second if settings.tokens_per_second else 0.0
        began = last = perf_counter()
        emitted = 0
        try:
            for count, token in enumerate(tokens):
                if count == settings.hang_after_tokens:
                    await asyncio.Event().wait()
                if count == settings.die_after_tokens:
                    raise ConnectionDropped
                await asyncio.sleep(max(0.0, began + count * pace - perf_counter()))
                now = perf_counter()
                if count:
                    self.metrics.inter_token.observe(now - last)
                else:
                    self.metrics.first_token.observe(now - arrived)
                last = now
                self.metrics.generation_tokens.inc()
                self._use_kv(1)
                emitted += 1
                yield token
        finally:
            self._use_kv(-emitted)

    def _use_kv(self, tokens: int) -> None:
        self._kv_tokens += tokens
        self.metrics.kv_cache_usage.set(min(1.0, self._kv_tokens / KV_CAPACITY_TOKENS))
