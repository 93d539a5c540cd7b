"""``studio status``."""

from collections.abc import Iterator
from datetime import datetime

from studio.v1.admin_service_pb2 import GatewayStatus, GetStatusResponse
from studio_runtime.settings import Address

from studio_cli import wording


def status_lines(status: GetStatusResponse, address: Address, now: datetime) -> Iterator[str]:
    """Coordinator, leader, gateways."""
    role = "leads" if status.leader else f"stands by; {status.leader_address or 'nobody'} leads"
    yield f"coordinator  {address}, version {status.version}, schema {status.schema_revision}, {role} (term {status.term})"
    yield f"routes       version {status.route_version}"
    if not status.gateways:
        yield "gateways     none is connected"
    for place, gateway in enumerate(status.gateways):
        yield f"{'gateways' if not place else '':<11}  {describe_gateway(gateway, status.route_version, now)}"


def describe_gateway(gateway: GatewayStatus, route_version: int, now: datetime) -> str:
    """Since when it is connected and whether it has the newest routes."""
    since = wording.age(gateway.connected_at, now)
    routes = (
        "has the newest routes"
        if gateway.route_version_acked >= route_version
        else f"has routes of version {gateway.route_version_acked}"
    )
    return f"{gateway.gateway_id}, connected for {since}, {routes}"
