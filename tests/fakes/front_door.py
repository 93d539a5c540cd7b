"""The real gateway on a real socket, its tables put in by the test instead of by a coordinator."""

import asyncio
import hmac
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from prometheus_client import CollectorRegistry
from studio.v1.route_pb2 import AccessTable, ApiKey, Endpoint, ProviderRoute, Route, RouteTable, UsageRecord
from studio_gateway.account import Metrics
from studio_gateway.app import Gateway
from studio_gateway.deadlines import Deadlines
from studio_gateway.forward import Forwarder
from studio_gateway.in_force import InForce
from studio_gateway.limits import Limits
from studio_gateway.link import Link
from studio_gateway.litellm_lane import LiteLlmLane
from studio_gateway.quota.leasing import Leasing
from studio_gateway.server import Server, listen
from studio_gateway.traffic import Traffic
from studio_gateway.upstream import Pool
from studio_gateway.waking.room import WaitingRoom
from studio_runtime.settings import Address

PEPPER = b"pepper"
KEY = "sk-abcdefghijkl-" + "s" * 43
# No coordinator is there: nothing is ever asked of it where no key has limits.
NOWHERE = Address("127.0.0.1", 1)
QUICK = Limits(connect_seconds=1, first_byte_seconds=5, idle_seconds=5, drain_seconds=5, body_idle_seconds=5)


def an_api_key(key: str = KEY, **fields: Any) -> ApiKey:
    fields.setdefault("tenant", "lab")
    return ApiKey(id=key.split("-")[1], hash=hmac.digest(PEPPER, key.encode(), "sha256"), name="test", **fields)


def an_access_table(*keys: ApiKey, version: int = 1) -> AccessTable:
    return AccessTable(version=version, pepper=PEPPER, keys=keys or [an_api_key()])


def a_route(model: str = "tiny", *urls: str, **fields: Any) -> Route:
    endpoints = [
        Endpoint(replica_id=f"{model}-{n}", base_url=url, weight=1, recipe_revision=3) for n, url in enumerate(urls)
    ]
    return Route(model=model, endpoints=endpoints, **fields)


def a_route_table(
    *routes: Route, version: int = 1, term: int = 1, providers: tuple[ProviderRoute, ...] = ()
) -> RouteTable:
    return RouteTable(version=version, term=term, routes=routes, provider_routes=providers)


@dataclass
class FrontDoor:
    """A running gateway, and a client with the valid key."""

    url: str
    in_force: InForce
    gateway: Gateway
    client: aiohttp.ClientSession
    serving: "asyncio.Task[None]"
    registry: CollectorRegistry
    records: list[UsageRecord] = field(default_factory=list)

    async def record(self, number: int = 0) -> UsageRecord:
        """The usage record of that number, once it is there."""
        async with asyncio.timeout(10):
            while len(self.records) <= number:
                await asyncio.sleep(0.005)
        return self.records[number]

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"studio_gateway_{name}", labels) or 0.0


@asynccontextmanager
async def front_door(
    *routes: Route,
    limits: Limits = QUICK,
    access: AccessTable | None = None,
    providers: tuple[ProviderRoute, ...] = (),
    litellm: bool = False,
    litellm_settings: Mapping[str, Any] | None = None,
    coordinator: Address = NOWHERE,
    gateway_id: str = "g1",
) -> AsyncIterator[FrontDoor]:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    in_force = InForce(metrics)
    in_force.put_access(access or an_access_table())
    sock = listen(Address("127.0.0.1", 0))
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    records: list[UsageRecord] = []
    lane = LiteLlmLane(in_force, limits, enabled=litellm, settings=litellm_settings)
    accepting = asyncio.Event()

    async def when_accepting() -> None:
        accepting.set()

    with Deadlines() as deadlines, Pool(deadlines) as pool:
        forwarder = Forwarder(in_force, pool, deadlines, metrics, limits)
        leasing = Leasing(Link([coordinator]), gateway_id, lambda: coordinator != NOWHERE)
        traffic = Traffic("start-1")
        waiting = WaitingRoom(deadlines, traffic)
        in_force.on_routes += (lane.look, waiting.look)
        in_force.put_routes(a_route_table(*routes, providers=providers))
        gateway = Gateway(in_force, forwarder, lane, records.append, metrics, limits, leasing, traffic, waiting)
        serving = asyncio.create_task(Server(gateway, deadlines, limits).serve(sock, when_accepting))
        loading = asyncio.create_task(lane.run())
        asking = asyncio.create_task(leasing.run())
        try:
            await accepting.wait()
            async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as client:
                yield FrontDoor(url, in_force, gateway, client, serving, registry, records)
        finally:
            for task in (serving, loading, asking):
                task.cancel()
            await asyncio.gather(serving, loading, asking, return_exceptions=True)
