"""The gateway judges addresses as the coordinator does."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from studio.v1.route_pb2 import ProviderRoute
from studio_coordinator.manifest import addresses
from studio_coordinator.rpc import provider_rules
from studio_gateway.openai_errors import ApiError
from studio_gateway.provider_address import AT_HOME, NOT_ASKED, ProviderAddresses, is_public


@given(st.ip_addresses() | st.ip_addresses(network=ipaddress.ip_network("64:ff9b::/96")))
def test_gateway_and_coordinator_agree(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert is_public(address) is addresses.is_public(address)


@given(st.ip_addresses(v=4))
def test_an_address_inside_another_counts(inner: ipaddress.IPv4Address) -> None:
    assert is_public(ipaddress.ip_address(f"::ffff:{inner}")) is is_public(inner)


def test_both_know_the_same_providers() -> None:
    assert (AT_HOME, NOT_ASKED) == (provider_rules.AT_HOME, provider_rules.NOT_ASKED)


@pytest.mark.parametrize("kind", sorted(AT_HOME))
async def test_a_provider_that_litellm_looks_for_on_this_machine_is_inside(kind: str) -> None:
    provider = ProviderRoute(model="other", provider_model=f"{kind}/x")
    with pytest.raises(ApiError, match="private network"):
        await ProviderAddresses().require_outside(provider)
    provider.allow_private = True
    await ProviderAddresses().require_outside(provider)
    provider.provider_model, provider.allow_private = "openai/gpt-5", False
    await ProviderAddresses().require_outside(provider)


async def test_what_follows_redirects_by_a_way_of_its_own_is_never_asked() -> None:
    provider = ProviderRoute(model="other", provider_model=f"{NOT_ASKED}/x", allow_private=True)
    with pytest.raises(ApiError, match="not asked"):
        await ProviderAddresses().require_outside(provider)
