"""The services on their ports, each with gRPC's health service and reflection.

Without TLS there is one port. With TLS there are two: gRPC cannot ask for a certificate and do without one, so nodes (and
consoles with an identity) have a port that requires it, and operators, like nodes that have none yet, one that asks for none.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from studio.v1.access_service_pb2_grpc import add_AccessServiceServicer_to_server
from studio.v1.admin_service_pb2_grpc import AdminServiceServicer, add_AdminServiceServicer_to_server
from studio.v1.agent_service_pb2_grpc import add_AgentServiceServicer_to_server
from studio.v1.identity_service_pb2_grpc import add_IdentityServiceServicer_to_server
from studio.v1.route_service_pb2_grpc import add_RouteServiceServicer_to_server
from studio.v1.telemetry_service_pb2_grpc import add_TelemetryServiceServicer_to_server
from studio_runtime.channel import make_server
from studio_runtime.errors import StudioError
from studio_runtime.settings import Address

from studio_coordinator.access.interceptor import AccessInterceptor
from studio_coordinator.access.journal import Journal
from studio_coordinator.authority.clones import CloneWatch
from studio_coordinator.plan.snapshot import Timers
from studio_coordinator.rpc.accept import AcceptState
from studio_coordinator.rpc.access_service import AccessService
from studio_coordinator.rpc.accounts import Accounts
from studio_coordinator.rpc.agents import AgentService
from studio_coordinator.rpc.commands import Commands
from studio_coordinator.rpc.desired import DesiredState
from studio_coordinator.rpc.hosts import Hosts
from studio_coordinator.rpc.identity import IdentityService
from studio_coordinator.rpc.keys import Keys
from studio_coordinator.rpc.peer import NodeGate
from studio_coordinator.rpc.planning import Planning
from studio_coordinator.rpc.recipes import Recipes
from studio_coordinator.rpc.rollouts import Rollouts
from studio_coordinator.rpc.routes import RouteService
from studio_coordinator.rpc.state import AdminState
from studio_coordinator.rpc.telemetry import TelemetryService
from studio_coordinator.rpc.tenants import Tenants
from studio_coordinator.rpc.views import Views
from studio_coordinator.rpc.waking import Waking

PACKAGE = "studio.v1"

# Name, the generated function that adds it to a server, and the servicer.
Services: TypeAlias = Sequence[tuple[str, Callable[[Any, grpc.aio.Server], None], Any]]


class AdminService(
    Planning,
    DesiredState,
    Recipes,
    Rollouts,
    Commands,
    Views,
    Accounts,
    Keys,
    Tenants,
    Hosts,
    AcceptState,
    Waking,
    AdminServiceServicer,
):
    """The operators' side of the coordinator, each part in a file of its own."""


@dataclass(frozen=True)
class Port:
    """One port that is served."""

    server: grpc.aio.Server
    health: health.aio.HealthServicer
    address: Address

    async def stop(self) -> None:
        """End the long-lived streams after a moment; agents and gateways dial again by themselves."""
        await self.health.enter_graceful_shutdown()
        await self.server.stop(grace=0.5)


@dataclass(frozen=True)
class RunningServer:
    """A started server and where it listens: for nodes, and for operators. Without TLS both are one port."""

    nodes: Port
    operators: Port

    @property
    def address(self) -> Address:
        """For agents and gateways."""
        return self.nodes.address

    @property
    def admin_address(self) -> Address:
        """For operators, and for nodes that join."""
        return self.operators.address

    async def stop(self) -> None:
        """End both."""
        await asyncio.gather(
            *(port.stop() for port in {id(port): port for port in (self.nodes, self.operators)}.values())
        )


async def start_server(listen: Address, state: AdminState, timers: Timers) -> RunningServer:
    """Start serving on ``listen``, with TLS on the operators' port as well; StudioError when a port is not to be had."""
    fleet, journal = state.fleet_identity, Journal(state.database)
    interceptor = AccessInterceptor(state.authenticator, journal)
    if fleet is None:
        port = await _start(listen, None, interceptor, [*_operators(state), *_nodes(state, timers, None)])
        return RunningServer(port, port)
    gate, tls = NodeGate(fleet.enrolment, CloneWatch()), fleet.server_tls
    identities: Services = [
        ("IdentityService", add_IdentityServiceServicer_to_server, IdentityService(fleet.enrolment, journal))
    ]
    operators = await _start(
        fleet.settings.admin_listen, tls.operators.credentials, interceptor, [*_operators(state), *identities]
    )
    services = [*_operators(state), *identities, *_nodes(state, timers, gate)]
    return RunningServer(await _start(listen, tls.nodes.credentials, interceptor, services), operators)


def _operators(state: AdminState) -> Services:
    """What operators and consoles call."""
    telemetry = TelemetryService(state.database, state.sessions, state.rings)
    return [
        ("AdminService", add_AdminServiceServicer_to_server, AdminService(**vars(state))),
        ("AccessService", add_AccessServiceServicer_to_server, AccessService(**vars(state))),
        ("TelemetryService", add_TelemetryServiceServicer_to_server, telemetry),
    ]


def _nodes(state: AdminState, timers: Timers, gate: NodeGate | None) -> Services:
    """What agents and gateways call."""
    agents = AgentService(
        state.database, state.leadership, state.sessions, timers, state.events_stored, state.rings, state.sealer, gate
    )
    routes = RouteService(state.database, state.leadership, state.gateways, state.sealer, gate)
    return [
        ("AgentService", add_AgentServiceServicer_to_server, agents),
        ("RouteService", add_RouteServiceServicer_to_server, routes),
    ]


async def _start(
    listen: Address, credentials: grpc.ServerCredentials | None, interceptor: AccessInterceptor, services: Services
) -> Port:
    """Serve ``services`` on one port, with health and reflection; in clear text without ``credentials``."""
    server = make_server([interceptor])
    for _, add, servicer in services:
        add(servicer, server)
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    names = [f"{PACKAGE}.{name}" for name, _, _ in services]
    reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    try:
        port = _bind(server, listen, credentials)
    except RuntimeError as error:
        raise StudioError(
            f"the coordinator cannot listen on {listen}: the port is taken or not allowed",
            "Choose another with --listen, or --admin-listen for operators.",
        ) from error
    await server.start()
    for name in ("", *names):
        await health_servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    return Port(server, health_servicer, Address(listen.host, port))


def _bind(server: grpc.aio.Server, listen: Address, credentials: grpc.ServerCredentials | None) -> int:
    """Take the port. Raises RuntimeError where it is not to be had."""
    if credentials is None:
        return server.add_insecure_port(str(listen))
    return server.add_secure_port(str(listen), credentials)
