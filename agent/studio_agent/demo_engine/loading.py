"""The demo engine's start: it takes the set time and is logged in vLLM's words, so that progress can be followed."""

import asyncio
import logging

from studio_agent.demo_engine.engine import KV_CAPACITY_TOKENS
from studio_agent.demo_engine.misbehaviour import exit_suddenly
from studio_agent.demo_engine.settings import Settings

SHARDS = 4
log = logging.getLogger(__name__)


async def load(settings: Settings) -> None:
    """Pretend to load for ``load_seconds``; ends the process where ``fail_line`` is set."""
    log.info("Initializing a V1 LLM engine (vLLM Studio demo engine, a stand-in) for %s", ", ".join(settings.model))
    log.info("Starting to load model %s...", settings.model[0])
    for shard in range(SHARDS):
        log.info("Loading safetensors checkpoint shards: %3d%% Completed | %d/%d", shard * 100 // SHARDS, shard, SHARDS)
        await asyncio.sleep(settings.load_seconds / SHARDS)
        if settings.fail_line:
            log.error("%s", settings.fail_line)
            exit_suddenly(1 if settings.exit_code is None else settings.exit_code)
    log.info("Loading safetensors checkpoint shards: 100%% Completed | %d/%d", SHARDS, SHARDS)
    log.info("Model loading took 0.0 GiB memory and %.6f seconds", settings.load_seconds)
    log.info(
        "GPU KV cache size: %s tokens, Maximum concurrency for %s tokens per request: %.2fx",
        f"{KV_CAPACITY_TOKENS:,}",
        f"{settings.max_model_len:,}",
        KV_CAPACITY_TOKENS / settings.max_model_len,
    )
    log.info("init engine (profile, create kv cache, warmup model) took 0.00 s")
