"""Asking an engine over HTTP: is it up, does it complete, what do its metrics say."""

import json
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

from studio_agent.clear_http import aiohttp

PROBE_TIMEOUT_SECONDS = 5.0
# A first completion may compile kernels.
COMPLETION_TIMEOUT_SECONDS = 120.0
# Where an answer has what was asked for: a completion, vectors or classes, ranks.
ANSWER_KEYS = ("choices", "data", "results")
# From one question to the next; less than servers wait, so that it is never they who close first.
KEEP_SECONDS = 3.0
LARGEST_METRICS_BYTES = 2 * 1024 * 1024


class Prober:
    """HTTP to engines on this host; an async context."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # Opening connections would be a fifth of the agent's work. An engine that ends closes its own, so none outlives it.
        connector = aiohttp.TCPConnector(keepalive_timeout=KEEP_SECONDS, limit=0)
        self._session = aiohttp.ClientSession(connector=connector, trust_env=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def is_up(self, url: str, limit_seconds: float = PROBE_TIMEOUT_SECONDS) -> bool:
        """Whether ``url`` answers 200."""
        try:
            async with self._get(url, limit_seconds) as response:
                return response.status == HTTPStatus.OK
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def completion_problem(self, url: str, body: dict[str, Any]) -> str:
        """Ask for a completion, a vector or a score: "" when it came, else what happened."""
        timeout = aiohttp.ClientTimeout(total=COMPLETION_TIMEOUT_SECONDS)
        try:
            async with self._open().post(url, json=body, timeout=timeout) as response:
                text = await response.text()
                if response.status != HTTPStatus.OK:
                    return f"a completion was answered with {response.status}: {text[:300]}"
                answer = json.loads(text)
                if any(answer.get(key) for key in ANSWER_KEYS):
                    return ""
                return f"an answer came without {', '.join(ANSWER_KEYS)}: {text[:300]}"
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return f"a completion failed: {type(error).__name__} {error}"

    async def request_problem(self, method: str, url: str, body: dict[str, Any] | None, limit_seconds: float) -> str:
        """Send a request that changes the engine: "" when it was carried out, else what happened."""
        timeout = aiohttp.ClientTimeout(total=limit_seconds)
        try:
            async with self._open().request(method, url, json=body, timeout=timeout) as response:
                if response.ok:
                    return ""
                return f"it was answered with {response.status}: {(await response.text())[:300]}"
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return f"{type(error).__name__} {error}".rstrip()

    async def metrics_text(self, base_url: str, limit_seconds: float = PROBE_TIMEOUT_SECONDS) -> str | None:
        """The engine's Prometheus page; None when it cannot be read."""
        try:
            async with self._get(f"{base_url}/metrics", limit_seconds) as response:
                if response.status != HTTPStatus.OK:
                    return None
                page = await response.content.read(LARGEST_METRICS_BYTES)
                while not response.content.at_eof() and len(page) < LARGEST_METRICS_BYTES:
                    page += await response.content.read(LARGEST_METRICS_BYTES - len(page))
                return page.decode("utf-8", "replace")
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None

    def _get(self, url: str, limit_seconds: float) -> "aiohttp.client._RequestContextManager":
        return self._open().get(url, timeout=aiohttp.ClientTimeout(total=limit_seconds))

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the prober is used outside of its context")
        return self._session
