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
PREFILL_CHUNK_SECONDS = 0.1
log = logging.getLogger(__name__)


class DemoEngine:
    """Gives out slots and tokens. One event loop owns it."""

    def __init__(self, settings: Settings, memory: MemoryClaim) -> None:
        self.settings = settings
        self.metrics = EngineMetrics(settings.model[0])
        self.sleep_level: int | None = None
        # Names of adapters and where they came from.
        self.adapters = dict.fromkeys(settings.lora_modules, "")
        self._memory = memory
        self._slots = asyncio.Semaphore(settings.max_num_seqs)
        self._prefixes = PrefixCache()
        self._kv_tokens = 0
        # Nobody gets a token any more, though HTTP answers.
        self._hung = settings.health_lie == "ok" and settings.hang_after_tokens is None

    @property
    def model_names(self) -> tuple[str, ...]:
        """The names it answers to: its own, then those of its adapters."""
        return (*self.settings.model, *self.adapters)

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
    async def slot(self) -> AsyncIterator[None]:
        """Hold one of the slots; it is free again at once when the caller is cancelled."""
        self.metrics.waiting.inc()
        try:
            await self._slots.acquire()
        finally:
            self.metrics.waiting.dec()
        self.metrics.running.inc()
        try:
            yield
        except BaseException:
            self.metrics.finished("abort")
            raise
        finally:
            self.metrics.running.dec()
            self._slots.release()

    async def prefill(self, prompt_ids: Sequence[int]) -> AsyncGenerator[int]:
        """Work through a prompt in the set time, chunk by chunk; yields how many tokens each had. Hangs where the engine does."""
        await self._stand_still_if_hung()
        self.metrics.prefix_queries.inc(len(prompt_ids))
        hits = self._prefixes.look_up(prompt_ids)
        self.metrics.prefix_hits.inc(hits)
        seconds = self.settings.prefill_seconds
        if self.settings.prefill_tokens_per_second:
            seconds += (len(prompt_ids) - hits) / self.settings.prefill_tokens_per_second
        chunks = max(1, min(len(prompt_ids), int(seconds / PREFILL_CHUNK_SECONDS)))
        done = 0
        for chunk in range(1, chunks + 1):
            await asyncio.sleep(seconds / chunks)
            count = len(prompt_ids) * chunk // chunks - done
            done += count
            self.metrics.prompt_tokens.inc(count)
            yield count

    async def emit(self, prompt_ids: Sequence[int], tokens: Sequence[str], arrived: float) -> AsyncGenerator[str]:
        """Yield ``tokens`` at the set pace; ``arrived`` is the request's ``perf_counter`` time in seconds.

        Hangs, or raises ConnectionDropped, where the settings say so.
        """
        settings = self.settings
        pace = 1 / settings.tokens_per_second if settings.tokens_per_second else 0.0
        held = 0
        try:
            async for count in self.prefill(prompt_ids):
                self._use_kv(count)
                held += count
            began = last = perf_counter()
            for count, token in enumerate(tokens):
                if count == settings.hang_after_tokens:
                    self._hung = settings.health_lie == "ok"
                    await asyncio.Event().wait()
                await self._stand_still_if_hung()
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
                held += 1
                yield token
        finally:
            self._use_kv(-held)

    async def _stand_still_if_hung(self) -> None:
        if self._hung:
            await asyncio.Event().wait()

    def _use_kv(self, tokens: int) -> None:
        self._kv_tokens += tokens
        self.metrics.kv_cache_usage.set(min(1.0, self._kv_tokens / KV_CAPACITY_TOKENS))
