"""What a gateway says of the slots that it holds: that it lives, and what it gives back when it ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from fakes.route_service import RouteServer
from studio.v1.route_pb2 import Limits
from studio.v1.route_service_pb2 import QuotaSubject
from studio_gateway.link import Link
from studio_gateway.quota import leasing as module
from studio_gateway.quota.claims import Bound, Claim
from studio_gateway.quota.leasing import Leasing, Waiting
from studio_gateway.quota.purse import Reservation
from studio_runtime.settings import Address

SLOT = Claim(Bound("key:k", QuotaSubject.BOUND_CONCURRENCY), 1, 1, Limits.PERIOD_UNSPECIFIED)


@asynccontextmanager
async def asking(port: int) -> AsyncIterator[Leasing]:
    leasing = Leasing(Link([Address("127.0.0.1", port)]), "gw-1", lambda: True)
    task = asyncio.create_task(leasing.run())
    try:
        yield leasing
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def reserved(leasing: Leasing) -> Reservation:
    granted: asyncio.Future[Reservation] = asyncio.get_running_loop().create_future()
    leasing.reserve([SLOT], granted.set_result, granted.set_exception)
    async with asyncio.timeout(10):
        return await granted


async def test_a_gateway_whose_slots_are_enough_says_that_it_lives(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "SIGN_OF_LIFE_SECONDS", 0.2)
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.05)
    async with RouteServer() as server, asking(server.port) as leasing:
        await reserved(leasing)
        sign = await server.until_leased(3)
        assert not sign.needs
        assert not sign.settlements


async def test_a_gateway_that_ends_gives_back_its_slot():
    async with RouteServer() as server:
        async with asking(server.port) as leasing:
            leasing.settle(await reserved(leasing), 0, 0)
        (item,) = server.leases[-1].settlements
        assert (item.subject, item.returned) == (SLOT.bound.subject(), 1)
        assert [request.sequence for request in server.leases] == [1, 2]


async def test_a_slot_that_is_in_use_is_not_given_back():
    async with RouteServer() as server:
        async with asking(server.port) as leasing:
            await reserved(leasing)
        assert not server.leases[-1].settlements
        assert server.leases[-1].is_last


async def test_a_gateway_that_never_asked_ends_without_a_word():
    async with RouteServer() as server:
        async with asking(server.port):
            pass
        assert not server.leases


async def test_the_end_does_not_wait_for_a_coordinator_that_hangs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "FAREWELL_SECONDS", 0.5)
    async with RouteServer() as server, asyncio.timeout(20):
        async with asking(server.port) as leasing:
            leasing.settle(await reserved(leasing), 0, 0)
            server.answers.clear()
        assert server.leases[-1].settlements


async def test_what_an_answer_that_came_late_granted_is_given_back_too():
    async with RouteServer() as server:
        server.answers.clear()
        async with asking(server.port) as leasing:
            waiting = leasing.reserve([SLOT], lambda _: None, lambda _: None)
            assert isinstance(waiting, Waiting)
            await server.until_leased(1)
            waiting.stop()
            server.answers.set()
        assert server.leases[-1].settlements[0].returned == 1
