"""What the domains that media may come from mean to the real vLLM: without any of them, it fetches from inside."""

import asyncio
import subprocess
from pathlib import Path

from studio_agent.engines.vllm import NO_DOMAIN

# Run by the engine's own interpreter: an image at argv[1], from no domain but those in argv[2:].
FETCH = """
import sys
from vllm.multimodal.media import MediaConnector
MediaConnector(allowed_media_domains=sys.argv[2:]).fetch_image(sys.argv[1])
"""


async def test_no_picture_is_fetched_from_inside(engine_environment: Path) -> None:
    asked: list[bytes] = []

    async def inside(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.write(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async def fetched(*allowed: str) -> str:
        python = engine_environment.with_name("python")
        process = await asyncio.create_subprocess_exec(
            str(python), "-c", FETCH, url, *allowed, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        _, said = await process.communicate()
        assert process.returncode
        return said.decode()

    async with await asyncio.start_server(inside, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/latest/meta-data"
        # The way that the driver says it to `vllm serve`.
        assert "must be from one of the allowed domains" in await fetched(NO_DOMAIN)
        assert asked == []
        # Without it, it would be.
        await fetched()
        assert asked
