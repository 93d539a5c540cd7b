"""All services on one port, with gRPC's health service and reflection."""

from dataclasses import dataclass

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from studio.v1 import admin_service_pb2, agent_service_pb2, route_service_pb2
from studio.v1.admin_service_pb2_grpc import AdminServiceServicer, add_AdminServiceServicer_to_server
from studio.v1.agent_service_pb2_grpc import add_AgentServiceServicer_to_server
from studio.v1.route_service_pb2_grpc import add_RouteServiceServicer_to_server
from studio_runtime.channel import make_server
from studio_runtime.errors import StudioError
from studio_runtime.settings import Address

from studio_coordinator.plan.snapshot import Timers
from studio_coordinator.rpc.accept import AcceptState
from studio_coordinator.rpc.accounts import Accounts
from studio_coordinator.rpc.agents import AgentService
from studio_coordinator.rpc.commands import Commands
from studio_coordinator.rpc.desired import DesiredState
from studio_coordinator.rpc.hosts import Hosts
from studio_coordinator.rpc.keys import Keys
from studio_coordinator.rpc.planning import Planning
from studio_coordinator.rpc.recipes import Recipes
from studio_coordinator.rpc.routes import RouteService
from studio_coordinator.rpc.state import AdminState
from studio_coordinator.rpc.tenants import Tenants
from studio_coordinator.rpc.views import Views


class AdminService(
    Planning, DesiredState, Recipes, Commands, Views, Accounts, Keys, Tenants, Hosts, AcceptState, AdminServiceServicer
):
    """The operators' side of the coordinator, each part in a file of its own."""


@dataclass(frozen=True)
class RunningServer:
    """A started server and where it listens."""

    server: grpc.aio.Server
    health: health.aio.HealthServicer
    address: Address

    async def stop(self) -> None:
        """End the long-lived streams after a moment; agents and gateways dial again by themselves."""
        await self.health.enter_graceful_shutdown()
        await self.server.stop(grace=0.5)


async def start_server(listen: Address, state: AdminState, timers: Timers) -> RunningServer:
    """Start serving on ``listen``; StudioError when the port is not to be had."""
    server = make_server()
    add_AgentServiceServicer_to_server(
        AgentService(state.database, state.leadership, state.sessions, timers, state.events_stored), server
    )
    add_RouteServiceServicer_to_server(RouteService(state.database, state.leadership, state.gateways), server)
    add_AdminServiceServicer_to_server(AdminService(**vars(state)), server)
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    services = [
        module.DESCRIPTOR.services_by_name[name].full_name
        for module, name in (
            (admin_service_pb2, "AdminService"),
            (agent_service_pb2, "AgentService"),
            (route_service_pb2, "RouteService"),
        )
    ]
    reflection.enable_server_reflection([*services, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    try:
        port = server.add_insecure_port(str(listen))
    except RuntimeError as error:
        raise StudioError(
            f"the coordinator cannot listen on {listen}: the port is taken or not allowed",
            "Choose another with --listen.",
        ) from error
    await server.start()
    for name in ("", *services):
        await health_servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    return RunningServer(server, health_servicer, Address(listen.host, port))
