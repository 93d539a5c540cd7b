"""Where another provider is, looked at when a request goes there: a name that was outside when it was added may be inside now.

A name is resolved by the rules of this machine, which also read ``2130706433`` and ``0x7f.1`` as addresses. What is found out is
good for a few seconds. LiteLLM resolves the name again for each connection, and then it is judged again (``litellm_names``).
"""

import asyncio
import ipaddress
import socket
import time
from urllib.parse import urlsplit

from studio.v1.route_pb2 import ProviderRoute

from studio_gateway.openai_errors import SERVER, ApiError

GOOD_FOR_SECONDS = 5.0
RESOLVE_SECONDS = 5.0
MOST_REMEMBERED = 1000
# Where no address is given, LiteLLM looks for these on its own machine; the coordinator has the same list.
AT_HOME = frozenset(
    ("ollama", "ollama_chat", "llamafile", "lemonade", "docker_model_runner", "langgraph", "langflow", "xinference")
)
# Its HTTP client follows redirects, and nothing is to be had from it that `openai/` does not have.
NOT_ASKED = "aiohttp_openai"
TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class ProviderAddresses:
    """Remembers which hosts were outside a moment ago."""

    def __init__(self) -> None:
        self._outside: dict[str, float] = {}

    async def require_outside(self, provider: ProviderRoute) -> None:
        """Return if ``provider`` may be asked. Raises ApiError where it is inside and no administrator allowed that."""
        kind = provider.provider_model.partition("/")[0]
        if kind == NOT_ASKED:
            raise ApiError(
                502, "provider_not_offered", f"Providers of the kind {NOT_ASKED} are not asked.", kind=SERVER
            )
        if provider.allow_private:
            return
        if not provider.api_base:
            if kind in AT_HOME:
                raise refused_inside(provider)
            return
        host, now = urlsplit(provider.api_base).hostname or "", time.monotonic()
        if now - self._outside.get(host, float("-inf")) < GOOD_FOR_SECONDS:
            return
        if any(not is_public(address) for address in await _addresses_of(host)):
            raise refused_inside(provider)
        if len(self._outside) >= MOST_REMEMBERED:
            self._outside.clear()
        self._outside[host] = now


def host_to_judge(provider: ProviderRoute) -> str:
    """The host that has to be outside; "" where an administrator lets it be anywhere, or LiteLLM knows where it is."""
    return "" if provider.allow_private else urlsplit(provider.api_base).hostname or ""


def refused_inside(provider: ProviderRoute) -> ApiError:
    """What the client hears of a provider that is inside."""
    return ApiError(
        502,
        "provider_address_refused",
        f"The provider of the model {provider.model!r} is on a private network, and no administrator has allowed that.",
        kind=SERVER,
        finish="unavailable",
    )


def is_public(address: Address) -> bool:
    """As the coordinator judges: whether anybody may reach it."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and address in TRANSLATED:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
    return address.is_global and not address.is_multicast


async def _addresses_of(host: str) -> list[Address]:
    """All addresses of ``host``; none where it cannot be resolved, which LiteLLM finds out as well."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError):
        return []
    return [ipaddress.ip_address(str(one[4][0]).partition("%")[0]) for one in found]
