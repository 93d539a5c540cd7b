"""A real LiteLLM proxy as a process, of the version and with the configuration that a test gives."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from fakes.litellm_environments import litellm_environment, source_path
from fakes.ports import free_port

MASTER_KEY = "sk-" + "m" * 40
# Its import takes seconds, and on a busy machine many.
START_SECONDS = 240.0
CHAT = "/v1/chat/completions"
HI = [{"role": "user", "content": "hi"}]


@dataclass
class LiteLlmProxy:
    """Ready: ``client`` has the master key."""

    url: str
    client: aiohttp.ClientSession

    async def ask(self, model: str) -> tuple[int, Any]:
        """A chat: status and document."""
        async with self.client.post(self.url + CHAT, json={"model": model, "messages": HI}) as response:
            return response.status, await response.json()


@asynccontextmanager
async def litellm_proxy(
    version: str, folder: Path, config: Mapping[str, Any], environment: Mapping[str, str], workers: int = 1
) -> AsyncIterator[LiteLlmProxy]:
    programs = await asyncio.to_thread(litellm_environment, version)
    file = folder / "litellm.yaml"
    file.write_text(yaml.safe_dump(dict(config) | {"general_settings": {"master_key": MASTER_KEY}}))
    port = free_port()
    argv = [str(programs / "litellm"), "--config", str(file), "--host", "127.0.0.1", "--port", str(port)]
    argv += ["--num_workers", str(workers)]
    own = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONPATH": source_path(), **environment}
    with (folder / "litellm.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *argv, env=os.environ | own, stdout=log, stderr=log, cwd=folder, start_new_session=True
        )
    try:
        headers = {"Authorization": f"Bearer {MASTER_KEY}"}
        async with aiohttp.ClientSession(headers=headers) as client:
            proxy = LiteLlmProxy(f"http://127.0.0.1:{port}", client)
            await _until_alive(proxy, process)
            yield proxy
    finally:
        if process.returncode is None:
            # Its workers are in the session that was made for it.
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _until_alive(proxy: LiteLlmProxy, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(START_SECONDS):
        while process.returncode is None:
            try:
                async with proxy.client.get(f"{proxy.url}/health/liveliness") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.2)
    raise AssertionError(f"the proxy ended with {process.returncode}")
