"""May this caller put this into force? What only a manifest's reader knows: unsafe flags, other tenants' things, their secrets.

Asked inside the transaction that writes, so that what was looked at is what is changed.
"""

from collections.abc import Iterable

from studio.v1.deployment_pb2 import Deployment, DeploymentSpec
from studio.v1.recipe_pb2 import Recipe
from studio_runtime.errors import DeniedError, NotFoundError

from studio_coordinator.access.caller import Caller
from studio_coordinator.manifest.flag_classes import admin_only
from studio_coordinator.store import deployments, recipes, secrets
from studio_coordinator.store.database import Connection

MOST_NAMED = 10


def require_safe(caller: Caller, changed: Iterable[Recipe]) -> None:
    """Raise DeniedError, naming all of it, where a recipe that changes holds what only an administrator may allow."""
    if caller.is_fleet_admin:
        return
    unsafe = [f"{recipe.name}: {path} {why}" for recipe in changed for path, why in admin_only(recipe)]
    if unsafe:
        more = f"; and {len(unsafe) - MOST_NAMED} more" if len(unsafe) > MOST_NAMED else ""
        raise DeniedError(
            f"only an administrator of the whole fleet may apply this: {'; '.join(unsafe[:MOST_NAMED])}{more}",
            "Leave it out, or have an administrator apply it.",
        )


async def require_own_deployments(conn: Connection, caller: Caller, specs: Iterable[DeploymentSpec]) -> None:
    """Have each deployment be the caller's tenant's, before and after; one that says nothing becomes the tenant's.

    Raises DeniedError. Operators of the fleet may do anything.
    """
    if not caller.tenant:
        return
    tenants = {one.name: one.spec.tenant for one in await deployments.list_deployments(conn)}
    for spec in specs:
        spec.tenant = spec.tenant or caller.tenant
        if spec.tenant != caller.tenant or tenants.get(spec.name, caller.tenant) != caller.tenant:
            raise DeniedError(
                f"deployment {spec.name} is not the tenant {caller.tenant}'s",
                "Choose another name, or ask an operator of the whole fleet.",
            )


async def require_own_recipes(conn: Connection, caller: Caller, names: Iterable[str]) -> None:
    """Have each recipe that exists be used by deployments of the caller's tenant and by no other's. Raises DeniedError."""
    if not caller.tenant:
        return
    users: dict[str, list[Deployment]] = {}
    for one in await deployments.list_deployments(conn):
        users.setdefault(one.spec.recipe, []).append(one)
    for name in names:
        if not await _exists(conn, name):
            continue
        others = [one.name for one in users.get(name, []) if one.spec.tenant != caller.tenant]
        if others or name not in users:
            raise DeniedError(
                f"recipe {name} is used by {'deployments of others' if others else 'no deployment'} and not only by those of "
                f"the tenant {caller.tenant}",
                "Apply it under another name, and point your deployments at that.",
            )


async def require_secrets(conn: Connection, caller: Caller, changed: Iterable[Recipe]) -> None:
    """Have every secret that a recipe names be there, and for a tenant's operator be the tenant's.

    Raises NotFoundError, in the same words for a secret of others as for none.
    """
    named = {name: recipe.name for recipe in changed for name in secrets_of(recipe)}
    tenants = await secrets.tenants_of(conn, named)
    for name, recipe in named.items():
        if name not in tenants or (caller.tenant and tenants[name] != caller.tenant):
            raise NotFoundError(
                f"recipe {recipe} names the secret {name}, which there is not",
                f"Store it first: studio secrets put {name}",
            )


async def require_deployable(conn: Connection, caller: Caller, specs: Iterable[DeploymentSpec]) -> None:
    """Have no recipe that a tenant's deployment serves name a secret of another tenant. Raises DeniedError.

    Everybody may read and deploy a recipe; what it is given where it runs is not everybody's.
    """
    if not caller.tenant:
        return
    for spec in specs:
        revision = await recipes.get_recipe(conn, spec.recipe, spec.recipe_revision)
        tenants = await secrets.tenants_of(conn, secrets_of(revision.recipe))
        if not {*tenants.values()} <= {"", caller.tenant}:
            raise DeniedError(
                f"recipe {spec.recipe} is given a secret of another tenant, and {spec.name} is the tenant {caller.tenant}'s",
                "Apply the recipe under another name, with a secret of your own.",
            )


def secrets_of(recipe: Recipe) -> set[str]:
    """The names of all secrets that ``recipe`` needs."""
    return {*recipe.secrets.values(), *([recipe.model.token_secret] if recipe.model.token_secret else [])}


async def admit(conn: Connection, caller: Caller, names: Iterable[str], specs: Iterable[DeploymentSpec]) -> None:
    """Whether recipes of these names, and these deployments, are the caller's to change. Raises DeniedError."""
    await require_own_deployments(conn, caller, specs)
    await require_own_recipes(conn, caller, names)


async def admit_changes(conn: Connection, caller: Caller, changed: list[Recipe]) -> None:
    """Whether what the recipes say now is the caller's to say. Raises DeniedError or NotFoundError."""
    require_safe(caller, changed)
    await require_secrets(conn, caller, changed)


async def _exists(conn: Connection, name: str) -> bool:
    try:
        await recipes.get_recipe(conn, name)
    except NotFoundError:
        return False
    return True
