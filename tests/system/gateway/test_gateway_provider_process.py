"""Another provider's model through the real process: LiteLLM comes in by itself, after the gateway is ready."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from fakes.front_door import KEY, a_route_table, an_access_table
from fakes.gateway_process import GatewayProcess
from fakes.ports import free_port
from fakes.upstream import Upstream, answers, chat_answer
from studio.v1.route_pb2 import ProviderRoute
from studio_gateway.last_good import LastGood


async def test_provider_is_reached_from_the_last_good_copy(
    tmp_path: Path,
    start_gateway: Callable[..., Awaitable[GatewayProcess]],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("TEST_PROVIDER_KEY", "provider-secret")
    async with Upstream(answers(chat_answer("Hello", model="gpt-x"))) as provider:
        route = ProviderRoute(
            model="other",
            provider_model="openai/gpt-x",
            api_base=f"{provider.url}/v1",
            api_key_env="TEST_PROVIDER_KEY",
            allow_private=True,
        )
        copy = LastGood(tmp_path / "gateway")
        await asyncio.to_thread(copy.save, a_route_table(providers=(route,)))
        await asyncio.to_thread(copy.save, an_access_table())
        gateway = await start_gateway(free_port())
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as client:
            body = {"model": "other", "messages": [{"role": "user", "content": "hi"}]}
            async with client.post(f"{gateway.url}/v1/chat/completions", json=body) as response:
                assert (await response.json())["choices"][0]["message"]["content"] == "Hello"
        log = await asyncio.to_thread((tmp_path / "gateway.log").read_text)
        assert "litellm_loaded" in log
        assert "provider-secret" not in log
        assert await gateway.terminate() == 0
