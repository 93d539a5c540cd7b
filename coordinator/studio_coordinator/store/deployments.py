"""What is to be served: deployments with optimistic versions, their history, and marks for deletion.

A deleted deployment keeps its row, its names and its recipe until the last of its replicas is gone; then the leader purges it.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Integer,
    Select,
    String,
    Table,
    delete,
    func,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection
from studio.v1.admin_service_pb2 import Applied
from studio.v1.deployment_pb2 import Deployment, DeploymentSpec, Rollout
from studio_runtime.errors import ConflictError, InvalidError, NotFoundError

from studio_coordinator.manifest import MAX_REPLICAS, changed_paths, close_names_hint
from studio_coordinator.store.columns import Document, EnumName, Instant, from_row
from studio_coordinator.store.metadata import METADATA
from studio_coordinator.store.model_names import DEPLOYMENT, claim_names, release_names
from studio_coordinator.store.recipes import RECIPES, get_recipe
from studio_coordinator.store.replicas import REPLICAS

DEPLOYMENTS = Table(
    "deployments",
    METADATA,
    Column("name", String, primary_key=True),
    Column("spec", Document(DeploymentSpec), nullable=False),
    Column("recipe", String, ForeignKey("recipes.name"), nullable=False, index=True),
    # 0 follows the newest revision.
    Column("recipe_revision", Integer, nullable=False),
    Column("stopped", Boolean, nullable=False),
    Column("deleting", Boolean, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("actor", String, nullable=False),
    Column("traceparent", String, nullable=False),
    # Raised by every start: replicas that gave up are tried anew.
    Column("tries", BigInteger, nullable=False),
    # How far the change to another revision is; the leader moves it on. NULL: there never was one.
    Column("rollout", Document(Rollout)),
    # How far down the idle ladder it is; not a part of what an operator wrote, so it makes no new version.
    Column("rest", EnumName(Deployment.Rest.DESCRIPTOR, "REST_"), nullable=False, server_default="UNSPECIFIED"),
    Column("rest_reason", String, nullable=False, server_default=""),
    Column("rest_since", Instant),
)

# Every version there was: who made it, and what it said.
DEPLOYMENT_VERSIONS = Table(
    "deployment_versions",
    METADATA,
    Column("deployment", String, ForeignKey("deployments.name", ondelete="CASCADE"), primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("spec", Document(DeploymentSpec), nullable=False),
    Column("stopped", Boolean, nullable=False),
    Column("deleting", Boolean, nullable=False),
    Column("at", Instant, nullable=False),
    Column("actor", String, nullable=False),
)


async def apply_deployment(
    conn: AsyncConnection,
    spec: DeploymentSpec,
    actor: str,
    now: datetime,
    *,
    traceparent: str = "",
    expected_version: int = 0,
    create_only: bool = False,
) -> Applied:
    """Store ``spec`` where it differs from what there is; its recipe (and pinned revision) must exist.

    Raises NotFoundError for the recipe, ConflictError when a name belongs to another or ``expected_version`` (0: any) is stale.
    With ``create_only`` a deployment that exists is left as it is.
    """
    held = select(RECIPES.c.name).where(RECIPES.c.name == spec.recipe).with_for_update(read=True)
    await conn.execute(held)
    await get_recipe(conn, spec.recipe, spec.recipe_revision)
    written = {
        "spec": spec,
        "recipe": spec.recipe,
        "recipe_revision": spec.recipe_revision,
        "updated_at": now,
        "actor": actor,
        "traceparent": traceparent,
    }
    fresh = insert(DEPLOYMENTS).values(
        name=spec.name, stopped=False, deleting=False, tries=0, version=1, created_at=now, **written
    )
    if (await conn.execute(fresh.on_conflict_do_nothing().returning(DEPLOYMENTS.c.name))).one_or_none() is not None:
        if expected_version:
            raise ConflictError(
                f"deployment {spec.name} was deleted since version {expected_version}",
                "To create it anew, apply it without the version that you saw.",
            )
        await claim_names(conn, DEPLOYMENT, spec.name, [spec.name, *spec.aliases])
        await _record(conn, spec.name)
        return Applied(kind="Deployment", name=spec.name, outcome=Applied.OUTCOME_CREATED, version=1)
    old = await _locked(conn, spec.name, expected_version)
    if create_only or old["spec"] == spec:
        return Applied(kind="Deployment", name=spec.name, outcome=Applied.OUTCOME_UNCHANGED, version=old["version"])
    await claim_names(conn, DEPLOYMENT, spec.name, [spec.name, *spec.aliases])
    await _write(conn, spec.name, **written)
    return Applied(
        kind="Deployment",
        name=spec.name,
        outcome=Applied.OUTCOME_CHANGED,
        version=old["version"] + 1,
        changes=changed_paths(old["spec"], spec),
    )


async def list_deployments(conn: AsyncConnection, name: str = "") -> list[Deployment]:
    """All deployments by name, or the one with ``name``. ``target_revision`` is resolved; state fields are the caller's.

    One that is being deleted comes with ``stopped`` set and STATE_STOPPING.
    """
    query = _wanted()
    if name:
        query = query.where(DEPLOYMENTS.c.name == name)
    rows = await conn.execute(query.order_by(DEPLOYMENTS.c.name))
    return [_deployment(row) for row in rows.mappings()]


async def list_with_traceparents(conn: AsyncConnection) -> tuple[list[Deployment], dict[str, str]]:
    """All deployments, as ``list_deployments``; and the trace context of the last apply of those that have one, by name."""
    rows = (await conn.execute(_wanted().order_by(DEPLOYMENTS.c.name))).mappings().all()
    traces = {str(row["name"]): str(row["traceparent"]) for row in rows if row["traceparent"]}
    return [_deployment(row) for row in rows], traces


async def get_deployment(conn: AsyncConnection, name: str) -> Deployment:
    """The deployment; NotFoundError, with names that are close, where there is none."""
    found = await list_deployments(conn, name) if name else []
    if not found:
        raise await _not_found(conn, name)
    return found[0]


async def set_stopped(
    conn: AsyncConnection, name: str, stopped: bool, actor: str, now: datetime, expected_version: int = 0
) -> Deployment:
    """Stop the deployment, or start it and have replicas that gave up tried anew; a second stop changes nothing."""
    old = await _locked(conn, name, expected_version)
    if old["stopped"] != stopped or not stopped:
        tries = old["tries"] if stopped else await _next_try(conn, name, old["tries"])
        await _write(conn, name, stopped=stopped, tries=tries, actor=actor, updated_at=now)
    return await get_deployment(conn, name)


async def set_rest(
    conn: AsyncConnection,
    name: str,
    rest: Deployment.Rest.ValueType,
    reason: str,
    since: datetime | Timestamp,
    was_since: Timestamp | None,
) -> bool:
    """Send the deployment to ``rest``; False, and nothing written, where it changed since ``was_since`` (None: it never did)."""
    row = DEPLOYMENTS.c
    same = (row.name == name) & row.rest_since.is_not_distinct_from(was_since)
    written = update(DEPLOYMENTS).where(same).values(rest=rest, rest_reason=reason, rest_since=since)
    return (await conn.execute(written)).rowcount == 1


async def scale(
    conn: AsyncConnection, name: str, replicas: int, actor: str, now: datetime, expected_version: int = 0
) -> Deployment:
    """Have exactly ``replicas`` replicas. 0 stops the deployment and leaves its range, so that a start brings it back."""
    if not 0 <= replicas <= MAX_REPLICAS:
        raise InvalidError(f"{replicas} replicas are not between 0 and {MAX_REPLICAS:,}")
    if replicas == 0:
        return await set_stopped(conn, name, True, actor, now, expected_version)
    old = await _locked(conn, name, expected_version)
    spec = DeploymentSpec()
    spec.CopyFrom(old["spec"])
    spec.replicas.min = spec.replicas.max = replicas
    if old["stopped"] or spec != old["spec"]:
        tries = await _next_try(conn, name, old["tries"]) if old["stopped"] else old["tries"]
        await _write(conn, name, spec=spec, stopped=False, tries=tries, actor=actor, updated_at=now)
    return await get_deployment(conn, name)


async def put_rollout(conn: AsyncConnection, name: str, version: int, rollout: Rollout) -> bool:
    """Store what the leader decided on the deployment's ``version``; False when an operator changed it since.

    The version stays: what an operator saw of the deployment is still what it wants.
    """
    row = DEPLOYMENTS.c
    written = update(DEPLOYMENTS).where(row.name == name, row.version == version).values(rollout=rollout)
    return (await conn.execute(written)).rowcount == 1


async def steer_rollout(
    conn: AsyncConnection,
    name: str,
    steer: Callable[[Deployment], Rollout],
    actor: str,
    now: datetime,
    expected_version: int = 0,
    *,
    tried_anew: bool = False,
) -> Deployment:
    """An operator's word on a rollout: ``steer`` gives the one that is to be stored, or raises what is to be answered.

    ``tried_anew``: replicas that gave up are started again.
    """
    old = await _locked(conn, name, expected_version)
    rollout = steer(await get_deployment(conn, name))
    tries = await _next_try(conn, name, old["tries"]) if tried_anew else old["tries"]
    await _write(conn, name, rollout=rollout, tries=tries, actor=actor, updated_at=now)
    return await get_deployment(conn, name)


async def _next_try(conn: AsyncConnection, name: str, tries: int) -> int:
    """A number of tries that no replica of the deployment has reached: those over several hosts count restarts as well."""
    reached = select(func.max(REPLICAS.c.generation)).where(REPLICAS.c.deployment == name)
    return max(tries + 1, (await conn.execute(reached)).scalar_one_or_none() or 0)


async def delete_deployment(
    conn: AsyncConnection, name: str, actor: str, now: datetime, expected_version: int = 0
) -> None:
    """Mark the deployment for deletion; the leader purges it once its replicas are gone."""
    await _locked(conn, name, expected_version)
    await _write(conn, name, stopped=True, deleting=True, actor=actor, updated_at=now)


async def purge_deployment(conn: AsyncConnection, name: str) -> None:
    """Remove a deployment that is marked for deletion, with its names and its history; it must have no replica any more."""
    purged = delete(DEPLOYMENTS).where(DEPLOYMENTS.c.name == name, DEPLOYMENTS.c.deleting)
    if (await conn.execute(purged)).rowcount:
        await release_names(conn, DEPLOYMENT, name)


def _wanted() -> Select[*tuple[Any, ...]]:
    """Deployments with the revision that each is to run."""
    target = func.coalesce(func.nullif(DEPLOYMENTS.c.recipe_revision, 0), RECIPES.c.newest_revision)
    return select(DEPLOYMENTS, target.label("target_revision")).join(RECIPES, RECIPES.c.name == DEPLOYMENTS.c.recipe)


def _deployment(row: RowMapping) -> Deployment:
    deployment = from_row(Deployment, row)
    if row["deleting"]:
        deployment.state = Deployment.STATE_STOPPING
        deployment.state_reason = "it is being deleted"
    return deployment


async def _locked(conn: AsyncConnection, name: str, expected_version: int) -> RowMapping:
    """The row, locked until the transaction ends; refusals when it is missing, being deleted, or not as expected."""
    query = select(DEPLOYMENTS).where(DEPLOYMENTS.c.name == name).with_for_update(key_share=True)
    row = (await conn.execute(query)).mappings().one_or_none()
    if row is None:
        raise await _not_found(conn, name)
    if row["deleting"]:
        raise ConflictError(
            f"deployment {name} is being deleted: its replicas are still stopping",
            "Try again in a few seconds; studio ps shows what is left.",
        )
    if expected_version not in (0, row["version"]):
        raise await _stale(conn, row, expected_version)
    return row


async def _write(conn: AsyncConnection, name: str, **changed: object) -> None:
    """Write a new version of a row that is locked."""
    row = DEPLOYMENTS.c
    await conn.execute(update(DEPLOYMENTS).where(row.name == name).values(version=row.version + 1, **changed))
    await _record(conn, name)


async def _record(conn: AsyncConnection, name: str) -> None:
    row = DEPLOYMENTS.c
    now = select(row.name, row.version, row.spec, row.stopped, row.deleting, row.updated_at, row.actor)
    into = ["deployment", "version", "spec", "stopped", "deleting", "at", "actor"]
    await conn.execute(insert(DEPLOYMENT_VERSIONS).from_select(into, now.where(row.name == name)))


async def _not_found(conn: AsyncConnection, name: str) -> NotFoundError:
    names = list((await conn.execute(select(DEPLOYMENTS.c.name))).scalars())
    hint = close_names_hint(name, names, "studio deployments lists them.")
    return NotFoundError(f"there is no deployment {name}", hint)


async def _stale(conn: AsyncConnection, row: RowMapping, expected: int) -> ConflictError:
    version = DEPLOYMENT_VERSIONS.c
    query = select(DEPLOYMENT_VERSIONS).where(version.deployment == row["name"], version.version == expected)
    seen = (await conn.execute(query)).mappings().one_or_none()
    changes = ["all of it"]
    if seen is not None:
        changes = changed_paths(seen["spec"], row["spec"])
        if seen["stopped"] != row["stopped"]:
            changes.append("stopped" if row["stopped"] else "started")
    return ConflictError(
        f"deployment {row['name']} is at version {row['version']} (by {row['actor']}), not {expected}; "
        f"changed since: {'; '.join(changes)}",
        "Look at it as it is now, then apply your change to that.",
    )
