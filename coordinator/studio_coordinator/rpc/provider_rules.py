"""May this provider be added: its key is named and never given, its address is outside unless an administrator says so."""

import asyncio
import ipaddress
import socket
from urllib.parse import urlsplit

from studio.v1.route_pb2 import ProviderRoute
from studio_runtime.errors import DeniedError, InvalidError, NotFoundError

from studio_coordinator.access.caller import Caller, Kind
from studio_coordinator.manifest.addresses import is_public, why_inside
from studio_coordinator.store import secrets
from studio_coordinator.store.database import Connection

RESOLVE_SECONDS = 5.0
# Where no address is given, LiteLLM looks for these on the gateway's machine; the gateway has the same list.
AT_HOME = frozenset(
    ("ollama", "ollama_chat", "llamafile", "lemonade", "docker_model_runner", "langgraph", "langflow", "xinference")
)
# Its HTTP client follows redirects to anywhere.
NOT_ASKED = "aiohttp_openai"
# Variables that begin so say how the gateway itself is set up.
OURS = "STUDIO_"


def check_provider(provider: ProviderRoute) -> None:
    """Raise InvalidError for what is missing, or is no name."""
    if not provider.model or not provider.provider_model:
        raise InvalidError("a provider needs a public model name and the provider's own name for the model")
    if _kind(provider) == NOT_ASKED:
        raise InvalidError(f"providers of the kind {NOT_ASKED} are not asked", "Write openai/ in its place.")
    if provider.api_key_env and not provider.api_key_env.isidentifier():
        raise InvalidError(
            f"{provider.api_key_env!r} is not the name of an environment variable",
            "Name the variable of the gateway that holds the key; never give the key itself.",
        )
    if provider.api_key_env and provider.api_key_secret:
        raise InvalidError(
            "a provider's key is in a variable of the gateway or in a stored secret, not in both",
            "Give --api-key-env or --api-key-secret.",
        )
    if provider.api_key_env.upper().startswith(OURS):
        raise InvalidError(f"{provider.api_key_env} is a variable of the gateway's own, and no provider's key")
    if not provider.api_base:
        return
    try:
        address = urlsplit(provider.api_base)
    except ValueError:
        raise InvalidError(f"{provider.api_base!r} is no http or https URL") from None
    if address.scheme not in ("http", "https"):
        raise InvalidError(f"{provider.api_base!r} is no http or https URL")
    if address.username or address.password:
        raise InvalidError(
            "the provider's address holds a user's name or a password, which everybody could read",
            "Store it: studio secrets put, and give --api-key-secret.",
        )


async def check_address(provider: ProviderRoute, caller: Caller) -> None:
    """Raise DeniedError where the provider is inside and that is not allowed. Resolves the name; call it in no transaction.

    Who needs no token because they are on this machine may reach its networks anyway: it is said for them, for the gateway, which
    looks again when it asks the provider.
    """
    if not provider.api_base and _kind(provider) not in AT_HOME:
        return
    if provider.allow_private:
        if not caller.is_fleet_admin:
            raise DeniedError("only an administrator of the whole fleet may allow a provider on a private network")
        return
    why = await _why_inside(provider)
    if why and caller.kind is Kind.LOCAL:
        provider.allow_private = True
    elif why:
        raise DeniedError(
            f"the provider's address points inside: {why}",
            "An administrator may allow it with --allow-private.",
        )


async def check_secret(conn: Connection, provider: ProviderRoute) -> None:
    """Raise NotFoundError where the secret that the provider names is not stored."""
    name = provider.api_key_secret
    if name and name not in await secrets.tenants_of(conn, [name]):
        raise NotFoundError(f"there is no secret {name}", f"Store it first: studio secrets put {name}")


def _kind(provider: ProviderRoute) -> str:
    return provider.provider_model.partition("/")[0]


async def _why_inside(provider: ProviderRoute) -> str:
    """Why the provider is inside; "" where it is not known to be."""
    url = provider.api_base
    if not url:
        return f"without one, {_kind(provider)} is looked for on the gateway's own machine"
    why = why_inside(url) or await _why_resolved_inside(urlsplit(url).hostname or "")
    return f"{url}: {why}" if why else ""


async def _why_resolved_inside(host: str) -> str:
    """A name that resolves to an inner address is inside; one that cannot be resolved now is not known to be."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError):
        return ""
    inside = [str(one[4][0]) for one in found if not is_public(ipaddress.ip_address(str(one[4][0]).partition("%")[0]))]
    return f"{host} is at {inside[0]}" if inside else ""
