"""Names completed in the shell: asked from the coordinator, quickly or not at all."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

import typer
from studio.v1.admin_service_pb2 import (
    ListDeploymentsRequest,
    ListHostsRequest,
    ListKeysRequest,
    ListProvidersRequest,
    ListRecipesRequest,
    ListReplicasRequest,
)
from studio_runtime.errors import StudioError

from studio_cli.addresses import resolve
from studio_cli.coordinator import Coordinator, connect
from studio_cli.credentials import bearer_for
from studio_cli.trust import trusted

# A shell that hangs while somebody types is worse than one that completes nothing.
PATIENCE_SECONDS = 1.0

Names = Callable[[Coordinator], Awaitable[Iterable[str]]]


def completed_by(*sources: Names) -> Callable[[typer.Context, list[str], str], list[str]]:
    """A completion of the names from all ``sources``."""

    def complete(ctx: typer.Context, args: list[str], incomplete: str) -> list[str]:  # noqa: ARG001 - typer's interface
        async def ask() -> list[str]:
            context = ctx.params.get("context") or ""
            flag = ctx.params.get("coordinator") or ""
            addresses = resolve(flag, context)
            bearer, tls = bearer_for(flag, context, addresses), trusted(flag, context)
            async with asyncio.timeout(PATIENCE_SECONDS), connect(addresses, tls, bearer) as coordinator:
                return [name for source in sources for name in await source(coordinator)]

        with suppress(StudioError, TimeoutError, OSError):
            return sorted({name for name in asyncio.run(ask()) if name.startswith(incomplete)})
        return []

    return complete


async def deployment_names(coordinator: Coordinator) -> list[str]:
    """Names of deployments."""
    answer = await coordinator.call(coordinator.admin.ListDeployments, ListDeploymentsRequest(), "complete a name")
    return [one.name for one in answer.deployments]


async def replica_names(coordinator: Coordinator) -> list[str]:
    """Names of replicas."""
    answer = await coordinator.call(coordinator.admin.ListReplicas, ListReplicasRequest(), "complete a name")
    return [one.id for one in answer.replicas]


async def host_names(coordinator: Coordinator) -> list[str]:
    """Names of hosts."""
    answer = await coordinator.call(coordinator.admin.ListHosts, ListHostsRequest(), "complete a name")
    return [one.name for one in answer.hosts]


async def recipe_names(coordinator: Coordinator) -> list[str]:
    """Names of recipes."""
    answer = await coordinator.call(coordinator.admin.ListRecipes, ListRecipesRequest(), "complete a name")
    return [one.recipe_name for one in answer.recipes]


async def exportable_names(coordinator: Coordinator) -> list[str]:
    """Names of recipes and deployments, with their kinds."""
    recipes, deployments = await recipe_names(coordinator), await deployment_names(coordinator)
    return [*(f"Recipe/{name}" for name in recipes), *(f"Deployment/{name}" for name in deployments)]


async def key_ids(coordinator: Coordinator) -> list[str]:
    """Ids of keys that are not revoked."""
    answer = await coordinator.call(coordinator.admin.ListKeys, ListKeysRequest(), "complete a name")
    return [one.id for one in answer.keys if not one.HasField("revoked_at")]


async def provider_models(coordinator: Coordinator) -> list[str]:
    """Public names of other providers' models."""
    answer = await coordinator.call(coordinator.admin.ListProviders, ListProvidersRequest(), "complete a name")
    return [one.model for one in answer.providers]
