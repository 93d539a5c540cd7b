"""The gateway judges addresses as the coordinator does."""

import ipaddress

from hypothesis import given
from hypothesis import strategies as st
from studio_coordinator.manifest import addresses
from studio_gateway.provider_address import is_public


@given(st.ip_addresses() | st.ip_addresses(network=ipaddress.ip_network("64:ff9b::/96")))
def test_gateway_and_coordinator_agree(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert is_public(address) is addresses.is_public(address)


@given(st.ip_addresses(v=4))
def test_an_address_inside_another_counts(inner: ipaddress.IPv4Address) -> None:
    assert is_public(ipaddress.ip_address(f"::ffff:{inner}")) is is_public(inner)
