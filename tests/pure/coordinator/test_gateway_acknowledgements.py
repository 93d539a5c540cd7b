"""What counts as acknowledged, when gateways may have seen tables that this database does not know."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st
from studio.v1.route_pb2 import RouteTable
from studio.v1.route_service_pb2 import TableAck
from studio_coordinator.gateways import GatewayRegistry


def registry(term: int, version: int, *acks: TableAck) -> GatewayRegistry:
    async def build() -> GatewayRegistry:
        gateways = GatewayRegistry()
        gateways.publish_routes(RouteTable(term=term, version=version))
        for number, ack in enumerate(acks):
            gateways.acknowledged(gateways.opened(f"g{number}"), ack)
        return gateways

    return asyncio.run(build())


def test_the_slowest_gateway_counts() -> None:
    acks = (TableAck(term=2, route_version=5), TableAck(term=2, route_version=4))
    assert registry(2, 5, *acks).acknowledged_version() == 4


def test_a_gateway_with_a_table_of_a_later_term_has_none_of_ours() -> None:
    assert registry(2, 5, TableAck(term=3, route_version=9)).acknowledged_version() == -1


def test_a_refusal_acknowledges_nothing_under_whatever_number() -> None:
    assert registry(2, 5, TableAck(term=2, route_version=5, refusal="other content")).acknowledged_version() == -1


@given(st.integers(1, 4), st.integers(0, 9), st.integers(1, 4), st.integers(0, 9))
def test_nothing_that_is_not_ours_is_ever_acknowledged(
    term: int, version: int, its_term: int, its_version: int
) -> None:
    acknowledged = registry(term, version, TableAck(term=its_term, route_version=its_version)).acknowledged_version()
    assert acknowledged is not None
    assert (acknowledged >= version) <= ((its_term, its_version) <= (term, version))
