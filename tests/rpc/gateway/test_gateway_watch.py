"""Tables by stream: put in force, acknowledged, refused, kept; over a real channel."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fakes.front_door import a_route, a_route_table, an_access_table
from fakes.route_service import RouteServer
from prometheus_client import CollectorRegistry
from studio.v1.route_pb2 import ProviderRoute
from studio_gateway.account import Metrics
from studio_gateway.in_force import InForce
from studio_gateway.last_good import LastGood
from studio_gateway.link import Link
from studio_gateway.traffic import Traffic
from studio_gateway.watch import RouteWatch
from studio_runtime.settings import Address

URL = "http://127.0.0.1:1"


@asynccontextmanager
async def watching(folder: Path, *ports: int, in_force: InForce | None = None) -> AsyncIterator[InForce]:
    in_force = in_force or InForce(Metrics(CollectorRegistry()))
    link = Link([Address("127.0.0.1", port) for port in ports])
    traffic = Traffic("start-1")
    watch = RouteWatch(link, in_force, LastGood(folder), "gw-1", "0.1.0", traffic)
    task = asyncio.create_task(watch.run())
    try:
        yield in_force
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def modes_of_copies(folder: Path) -> list[int]:
    return [file.stat().st_mode & 0o777 for file in folder.glob("last-good-*.binpb")]


async def test_tables_come_into_force_and_are_acknowledged(tmp_path: Path):
    routes, access = a_route_table(a_route("tiny", URL), version=7, term=2), an_access_table(version=3)
    async with RouteServer(routes, access) as server, watching(tmp_path, server.port) as in_force:
        ack = await server.until_acked(2)
        assert (ack.route_version, ack.term, ack.access_version, ack.refusal) == (7, 2, 3, "")
        assert in_force.routes is not None
        assert set(in_force.routes.by_name) == {"tiny"}
        assert server.hellos[0].gateway_id == "gw-1"


async def test_older_and_contradicting_tables_are_refused_and_change_nothing(tmp_path: Path):
    good = a_route_table(a_route("tiny", URL), version=7, term=2)
    async with RouteServer(good, an_access_table(version=5)) as server, watching(tmp_path, server.port) as in_force:
        await server.until_acked(2)
        offered = [
            a_route_table(version=6, term=2),
            a_route_table(version=9, term=1),
            a_route_table(version=7, term=2),
            a_route_table(a_route("tiny", URL), a_route("tiny", URL), version=8, term=2),
            a_route_table(a_route("tiny", "not-an-address"), version=8, term=2),
            an_access_table(version=4),
        ]
        for count, table in enumerate(offered, start=3):
            await server.send(table)
            ack = await server.until_acked(count)
            assert ack.refusal, table
            assert (ack.route_version, ack.term, ack.access_version) == (7, 2, 5)
        assert in_force.route_table == good


async def test_same_table_again_is_acknowledged_and_newer_terms_win(tmp_path: Path):
    table = a_route_table(a_route("tiny", URL), version=7, term=2)
    async with RouteServer(table, table) as server, watching(tmp_path, server.port) as in_force:
        assert (await server.until_acked(2)).refusal == ""
        await server.send(a_route_table(version=1, term=3))
        ack = await server.until_acked(3)
        assert (ack.route_version, ack.term) == (1, 3)
        assert in_force.routes is not None
        assert not in_force.routes.by_name


async def test_last_good_copy_is_private_and_brings_everything_back(tmp_path: Path):
    routes, access = a_route_table(a_route("tiny", URL), version=7), an_access_table(version=3)
    async with RouteServer(routes, access) as server, watching(tmp_path, server.port):
        await server.until_acked(2)
        await server.send(a_route_table(a_route("tiny", URL), version=8))
        await server.until_acked(3)
    assert modes_of_copies(tmp_path) == [0o600, 0o600]
    restarted = InForce(Metrics(CollectorRegistry()))
    LastGood(tmp_path).load_into(restarted)
    assert restarted.access_table == access
    assert restarted.route_table is not None
    # The last table may have been cut off by the stop; the one before it never is.
    assert restarted.route_table.version in (7, 8)


async def test_unreadable_copy_is_no_obstacle(tmp_path: Path):
    (tmp_path / "last-good-routes.binpb").write_bytes(b"\xff\xff\xff")
    in_force = InForce(Metrics(CollectorRegistry()))
    LastGood(tmp_path).load_into(in_force)
    assert in_force.routes is None


async def test_coordinator_that_dies_and_returns_is_found_again_and_others_are_tried(tmp_path: Path):
    first = a_route_table(a_route("tiny", URL), version=1)
    async with RouteServer(first) as other:
        dead_port = other.port
    async with RouteServer(first) as server, watching(tmp_path, dead_port, server.port) as in_force:
        await server.until_acked(1)
        port = server.port
        await server.__aexit__()
        assert in_force.route_table == first
        async with RouteServer(a_route_table(version=2), port=port) as returned:
            ack = await returned.until_acked(1)
            assert ack.route_version == 2
            assert returned.hellos[0].route_version == 1


async def test_who_looks_at_routes_has_seen_a_table_before_it_is_acknowledged(tmp_path: Path):
    seen: list[int] = []
    in_force = InForce(Metrics(CollectorRegistry()))
    table = a_route_table(providers=(ProviderRoute(model="other", provider_model="openai/x"),), version=4)
    async with RouteServer(table) as server:
        in_force.on_routes.append(lambda routes: seen.extend((routes.version, len(server.acks))))
        async with watching(tmp_path, server.port, in_force=in_force):
            await server.until_acked(1)
            assert seen == [4, 0]
