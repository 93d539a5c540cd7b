"""Two releases of LiteLLM, one from before its router was written anew: as a proxy that people run already, and as our lane."""

import asyncio
import os
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes.front_door import KEY, FrontDoor, a_route, a_route_table, front_door
from fakes.litellm_environments import PINS, ROOT, litellm_environment, source_path
from fakes.litellm_proxy import CHAT, HI, LiteLlmProxy, litellm_proxy
from fakes.route_service import RouteServer
from fakes.upstream import Upstream, answers, chat_answer, chat_chunks, streams
from studio_cli.litellm_entry import litellm_entry

HOOK = "studio_gateway.litellm_plugin:start"


@pytest.fixture(params=PINS)
def release(request: pytest.FixtureRequest) -> str:
    """A release that is installed now."""
    try:
        litellm_environment(request.param)
    except subprocess.CalledProcessError as error:
        pytest.skip(
            f"LiteLLM {request.param} cannot be installed here, so nothing of it is tested: {error.stderr[-500:]}"
        )
    version: str = request.param
    return version


async def eventually(ask: Callable[[], Awaitable[tuple[int, Any]]], status: int) -> Any:
    """The document of the first answer with ``status``."""
    async with asyncio.timeout(20):
        while True:
            got, document = await ask()
            if got == status:
                return document
            await asyncio.sleep(0.1)


def said(document: Any) -> str:
    text: str = document["choices"][0]["message"]["content"]
    return text


async def test_proxy_is_kept_in_step_and_the_exported_entry_leads_to_the_gateway(release: str, tmp_path: Path):
    """Both by one proxy: its start is what takes time."""
    gate = asyncio.Event()
    async with (
        Upstream(answers(chat_answer("theirs"))) as theirs,
        Upstream(answers(chat_answer("ours"))) as ours,
        Upstream(streams(chat_chunks("a", "b"), gate=gate)) as streaming,
        RouteServer(a_route_table(a_route("tiny", ours.url, aliases=["small"]), version=1)) as coordinator,
        front_door(a_route("tiny", ours.url)) as door,
    ):
        config = yaml.safe_load(litellm_entry(door.url, prefix="fleet", key_variable="FLEET_KEY"))
        own = {"model": "hosted_vllm/x", "api_base": f"{theirs.url}/v1", "api_key": "none"}
        config["model_list"].append({"model_name": "own", "litellm_params": own})
        environment = {
            "FLEET_KEY": KEY,
            "LITELLM_WORKER_STARTUP_HOOKS": HOOK,
            "STUDIO_COORDINATOR": f"127.0.0.1:{coordinator.port}",
            "STUDIO_GATEWAY_STATE_DIR": str(tmp_path / "plugin"),
        }
        async with litellm_proxy(release, tmp_path, config, environment) as proxy:
            await use_exported_entry(proxy, door)
            assert said(await eventually(lambda: proxy.ask("tiny"), 200)) == "ours"
            assert said((await proxy.ask("small"))[1]) == "ours"
            assert said((await proxy.ask("own"))[1]) == "theirs"
            assert (await coordinator.until_acked(1)).route_version == 1

            other = a_route("tiny", streaming.url)
            other.endpoints[0].replica_id = "tiny-7"
            await coordinator.send(a_route_table(other, version=2))
            assert (await coordinator.until_acked(2)).route_version == 2
            body = {"model": "tiny", "messages": HI, "stream": True}
            async with proxy.client.post(proxy.url + CHAT, json=body) as stream:
                assert b'"a"' in await stream.content.readany()
                await coordinator.send(a_route_table(version=3))
                assert (await coordinator.until_acked(3)).route_version == 3
                # Acknowledged, so from this moment on nothing new is sent to it; what runs goes on.
                assert (await proxy.ask("tiny"))[0] == 400
                gate.set()
                assert b'"b"' in await stream.read()
            assert said((await proxy.ask("own"))[1]) == "theirs"
            assert len(streaming.received) == 1


async def use_exported_entry(proxy: LiteLlmProxy, door: FrontDoor) -> None:
    status, document = await proxy.ask("fleet/tiny")
    assert (status, said(document)) == (200, "ours")
    record = await door.record()
    assert (record.model, record.prompt_tokens) == ("tiny", 7)
    assert (await proxy.ask("fleet/nobody"))[0] == 404


async def test_lane_of_the_gateway_works_with_this_release(release: str, tmp_path: Path):
    """The tests that ``make test`` runs with the locked release."""
    programs = await asyncio.to_thread(litellm_environment, release)
    settings = tmp_path / "pytest.ini"
    settings.write_text("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n")
    argv = [str(programs / "python"), "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--import-mode=importlib"]
    argv += ["-c", str(settings), str(ROOT / "tests" / "rpc" / "gateway" / "test_gateway_via_litellm.py")]
    path = os.pathsep.join((source_path(), str(ROOT / "tests")))
    process = await asyncio.create_subprocess_exec(
        *argv,
        env=os.environ | {"PYTHONPATH": path},
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
