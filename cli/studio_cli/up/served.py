"""Whether what is said to serve really does: the engines, which are on this machine, and the gateway.

Right after a restart the coordinator still tells of the replicas that ran before, until its agent has reported. Engines are asked
whether they are there, and the gateway as an application would, with the key that is handed out.
"""

import asyncio
import http.client
import json
from collections.abc import Collection
from urllib.parse import urlsplit

from studio_runtime.settings import Address

from studio_cli.views.starting import Standing

POLL_SECONDS = 0.1
REQUEST_SECONDS = 5.0
CONNECT_SECONDS = 2.0


async def all_answer(standing: Standing) -> bool:
    """Whether every engine that is said to serve takes connections."""
    return all([await takes_connections(endpoint) for endpoint in standing.endpoints])


async def takes_connections(url: str) -> bool:
    """Whether something listens at ``url``."""
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def until_served(gateway: Address, api_key: str, models: Collection[str], seconds: float) -> bool:
    """Wait until the gateway takes ``api_key`` and lists ``models``; False after ``seconds``."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                listed = await asyncio.to_thread(models_of, gateway, api_key)
                if listed is not None and listed.issuperset(models):
                    return True
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        return False


def models_of(gateway: Address, api_key: str) -> set[str] | None:
    """The models that ``GET /v1/models`` lists; None while it does not answer, or not take the key."""
    connection = http.client.HTTPConnection(gateway.host, gateway.port, timeout=REQUEST_SECONDS)
    try:
        connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {api_key}"})
        response = connection.getresponse()
        body = response.read()
        return {model["id"] for model in json.loads(body)["data"]} if response.status == http.HTTPStatus.OK else None
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return None
    finally:
        connection.close()
