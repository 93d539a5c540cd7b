"""LiteLLM in a process of its own: both kinds of model, its death, and the end of both processes."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import psutil
import pytest
from fakes.front_door import KEY, a_route, a_route_table, an_access_table
from fakes.gateway_process import GatewayProcess, until
from fakes.ports import free_port
from fakes.upstream import Upstream, answers, chat_answer, chat_chunks, streams
from studio.v1.route_pb2 import ProviderRoute
from studio_gateway.last_good import LastGood

CHILD = "studio_gateway.litellm_child"
HI = [{"role": "user", "content": "hi"}]


def children_of(gateway: GatewayProcess) -> list[psutil.Process]:
    living = (one for one in psutil.Process(gateway.process.pid).children() if one.status() != psutil.STATUS_ZOMBIE)
    return [one for one in living if CHILD in one.cmdline()]


async def test_it_answers_dies_comes_back_and_ends_with_its_gateway(
    tmp_path: Path,
    start_gateway: Callable[..., Awaitable[GatewayProcess]],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("TEST_PROVIDER_KEY", "provider-secret")
    async with (
        Upstream(answers(chat_answer("elsewhere", model="gpt-x"))) as provider,
        Upstream(streams(chat_chunks("a", "b"))) as engine,
    ):
        other = ProviderRoute(
            model="other",
            provider_model="openai/gpt-x",
            api_base=f"{provider.url}/v1",
            api_key_env="TEST_PROVIDER_KEY",
            allow_private=True,
        )
        own = a_route("tiny", "http://127.0.0.1:1", engine.url, via="litellm")
        copy = LastGood(tmp_path / "gateway")
        await asyncio.to_thread(copy.save, a_route_table(own, providers=(other,)))
        await asyncio.to_thread(copy.save, an_access_table())
        gateway = await start_gateway(free_port(), "--litellm", "process")
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as client:

            async def ask(model: str, **fields: object) -> tuple[int, str]:
                body = {"model": model, "messages": HI, **fields}
                async with client.post(f"{gateway.url}/v1/chat/completions", json=body) as response:
                    return response.status, await response.text()

            status, text = await ask("other")
            assert (status, "elsewhere" in text) == (200, True), text
            assert (await provider.request()).headers["authorization"] == "Bearer provider-secret"
            for _ in range(3):
                # One of its two endpoints is dead: the other one is asked.
                status, text = await ask("tiny", stream=True, top_k=3)
                assert (status, '"b"' in text, text.endswith("data: [DONE]\n\n")) == (200, True, True), text
            log = await asyncio.to_thread((tmp_path / "gateway.log").read_text)
            assert log.count("endpoint_ejected") == 1, "a dead endpoint is left out from its first failure on"
            assert (await engine.request()).document["top_k"] == 3
            assert (await ask("other", api_base="http://evil"))[0] == 400
            async with client.post(f"{gateway.url}/v1/rerank", json={"model": "tiny"}) as response:
                assert response.status == 501

            (child,) = children_of(gateway)
            assert "provider-secret" not in " ".join(child.cmdline())
            os.kill(child.pid, signal.SIGKILL)
            await until(lambda: [one.pid for one in children_of(gateway)] not in ([child.pid], []))
            # Answered by the new one, before it has imported LiteLLM.
            assert (await ask("other", api_base="http://evil"))[0] == 400
        (child,) = children_of(gateway)
        await gateway.kill()
        await until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
        log = await asyncio.to_thread((tmp_path / "gateway.log").read_text)
        assert "litellm_process_lost" in log
        assert "provider-secret" not in log
