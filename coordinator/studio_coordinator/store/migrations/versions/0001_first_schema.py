"""The first schema: hosts, desired state, running engines, routes, keys, events, usage, and who leads.

Revision ID: 0001
Revises: nothing
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# The oldest revision whose code works with the schema that this migration leaves behind.
OLDEST_CODE_REVISION = "0001"


def upgrade() -> None:
    """Create all tables."""
    _single_rows()
    _hosts()
    _recipes()
    _deployments()
    _running()
    _access()
    _happenings()


def downgrade() -> None:
    """Drop all tables, the ones that refer to others first."""
    for table in (
        "idempotency_keys",
        "usage",
        "events",
        "provider_models",
        "api_keys",
        "route_table",
        "assignments",
        "replicas",
        "model_names",
        "deployment_versions",
        "deployments",
        "recipe_revisions",
        "recipes",
        "gpus",
        "hosts",
        "leader_lease",
        "counters",
        "schema_info",
    ):
        op.drop_table(table)


def _text(name: str, *, null: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(), nullable=null)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False)


def _small(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=False)


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), nullable=False)


def _instant(name: str, *, null: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.TIMESTAMP(timezone=True), nullable=null)


def _json(name: str, *, null: bool = False) -> sa.Column[object]:
    return sa.Column(name, pg.JSONB(), nullable=null)


def _texts(name: str) -> sa.Column[list[str]]:
    return sa.Column(name, pg.ARRAY(sa.String()), nullable=False)


def _single_row(table: str) -> tuple[sa.schema.SchemaItem, ...]:
    return (
        sa.Column("id", sa.Integer(), autoincrement=False),
        sa.PrimaryKeyConstraint("id", name=f"{table}_pkey"),
        sa.CheckConstraint("id = 1", name=op.f(f"{table}_single_row_check")),
    )


def _key(table: str, *columns: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(*columns, name=f"{table}_pkey")


def _index(table: str, column: str) -> None:
    op.create_index(f"{table}_{column}_idx", table, [column])


def _reference(table: str, column: str, target: str, ondelete: str | None = None) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [target], name=f"{table}_{column}_fkey", ondelete=ondelete)


def _single_rows() -> None:
    info = op.create_table("schema_info", *_single_row("schema_info"), _text("oldest_code_revision"))
    op.bulk_insert(info, [{"id": 1, "oldest_code_revision": OLDEST_CODE_REVISION}])
    counters = op.create_table("counters", _text("name"), _number("value"), _key("counters", "name"))
    op.bulk_insert(counters, [{"name": "events", "value": 0}, {"name": "access", "value": 0}])
    op.create_table(
        "leader_lease",
        *_single_row("leader_lease"),
        _text("holder"),
        _text("address"),
        _number("epoch"),
        _instant("expires_at"),
    )
    routes = op.create_table("route_table", *_single_row("route_table"), _number("version"), _json("document"))
    op.bulk_insert(routes, [{"id": 1, "version": 0, "document": {}}])


def _hosts() -> None:
    op.create_table(
        "hosts",
        _text("id"),
        _text("name"),
        _text("state"),
        _text("state_reason"),
        _json("facts"),
        _json("labels"),
        _flag("cordoned"),
        _flag("draining"),
        _instant("last_seen"),
        _instant("first_seen"),
        _number("version"),
        _text("boot_id"),
        _text("agent_instance_id"),
        _number("session_epoch"),
        _number("event_sequence_acked"),
        _key("hosts", "id"),
        sa.UniqueConstraint("name", name="hosts_name_key"),
    )
    op.create_table(
        "gpus",
        _text("host_id"),
        _text("uuid"),
        _small("index"),
        _text("model"),
        _number("memory_bytes"),
        _text("health"),
        _text("health_reason"),
        _text("compute_capability"),
        _text("pci_bus_id"),
        _small("numa_node"),
        _text("parent_uuid"),
        _texts("nvlink_peers"),
        _key("gpus", "host_id", "uuid"),
        _reference("gpus", "host_id", "hosts.id", ondelete="CASCADE"),
    )


def _recipes() -> None:
    op.create_table(
        "recipes", _text("name"), _small("newest_revision"), _instant("deleted_at", null=True), _key("recipes", "name")
    )
    op.create_table(
        "recipe_revisions",
        _text("recipe_name"),
        _small("revision"),
        _json("recipe"),
        _text("digest"),
        _instant("created_at"),
        _text("actor"),
        _key("recipe_revisions", "recipe_name", "revision"),
        _reference("recipe_revisions", "recipe_name", "recipes.name"),
    )


def _deployments() -> None:
    op.create_table(
        "deployments",
        _text("name"),
        _json("spec"),
        _text("recipe"),
        _small("recipe_revision"),
        _flag("stopped"),
        _flag("deleting"),
        _number("version"),
        _instant("created_at"),
        _instant("updated_at"),
        _text("actor"),
        _text("traceparent"),
        _number("tries"),
        _key("deployments", "name"),
        _reference("deployments", "recipe", "recipes.name"),
    )
    _index("deployments", "recipe")
    op.create_table(
        "deployment_versions",
        _text("deployment"),
        _number("version"),
        _json("spec"),
        _flag("stopped"),
        _flag("deleting"),
        _instant("at"),
        _text("actor"),
        _key("deployment_versions", "deployment", "version"),
        _reference("deployment_versions", "deployment", "deployments.name", ondelete="CASCADE"),
    )
    op.create_table("model_names", _text("name"), _text("owner_kind"), _text("owner"), _key("model_names", "name"))


def _running() -> None:
    op.create_table(
        "replicas",
        _text("id"),
        _text("deployment"),
        _text("recipe_name"),
        _small("recipe_revision"),
        _text("host_id", null=True),
        _texts("gpu_uuids"),
        _text("state"),
        _text("state_reason"),
        _instant("state_since", null=True),
        _json("progress", null=True),
        _json("failure", null=True),
        _number("generation"),
        _text("base_url"),
        _small("pid"),
        _small("restarts"),
        _instant("retry_at", null=True),
        _flag("engine_ready"),
        _flag("retiring"),
        _text("retiring_reason"),
        _number("version"),
        _text("engine"),
        _key("replicas", "id"),
        _reference("replicas", "deployment", "deployments.name"),
        _reference("replicas", "host_id", "hosts.id"),
        sa.ForeignKeyConstraint(
            ["recipe_name", "recipe_revision"],
            ["recipe_revisions.recipe_name", "recipe_revisions.revision"],
            name="replicas_recipe_name_recipe_revision_fkey",
        ),
    )
    _index("replicas", "deployment")
    _index("replicas", "host_id")
    op.create_table(
        "assignments",
        _text("host_id"),
        _number("generation"),
        _number("term"),
        _json("document"),
        _key("assignments", "host_id"),
        _reference("assignments", "host_id", "hosts.id", ondelete="CASCADE"),
    )


def _access() -> None:
    op.create_table(
        "api_keys",
        _text("id"),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        _text("name"),
        _texts("models"),
        _instant("created_at"),
        _instant("expires_at", null=True),
        _instant("revoked_at", null=True),
        _text("tenant"),
        _key("api_keys", "id"),
    )
    op.create_table(
        "provider_models",
        _text("model"),
        _text("provider_model"),
        _text("api_base"),
        _text("api_key_env"),
        _instant("updated_at"),
        _text("actor"),
        _key("provider_models", "model"),
    )


def _happenings() -> None:
    op.create_table(
        "events",
        _number("sequence"),
        _instant("at"),
        _text("severity"),
        _text("kind"),
        _text("host"),
        _text("deployment"),
        _text("replica"),
        _text("reason"),
        _text("message"),
        _json("attributes"),
        _text("actor"),
        _key("events", "sequence"),
    )
    for column in ("at", "host", "deployment", "replica"):
        _index("events", column)
    op.create_table(
        "usage",
        _text("request_id"),
        _text("gateway_id"),
        _instant("at"),
        _text("key_id"),
        _text("model"),
        _text("replica_id"),
        _text("path"),
        _small("status"),
        _flag("stream"),
        _number("prompt_tokens"),
        _number("completion_tokens"),
        _number("cached_tokens"),
        sa.Column("time_to_first_token_seconds", sa.Double()),
        sa.Column("duration_seconds", sa.Double(), nullable=False),
        _text("finish"),
        _small("recipe_revision"),
        _text("tenant"),
        _text("provider"),
        _key("usage", "request_id"),
    )
    _index("usage", "at")
    op.create_table(
        "idempotency_keys",
        _text("key"),
        _text("request_digest"),
        sa.Column("response", sa.LargeBinary(), nullable=False),
        _instant("created_at"),
        _key("idempotency_keys", "key"),
    )
    _index("idempotency_keys", "created_at")
