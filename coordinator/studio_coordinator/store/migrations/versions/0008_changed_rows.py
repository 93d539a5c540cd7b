"""Which transaction wrote a row last, for tables that grow with the fleet and are read again and again.

Set by triggers, whoever writes: this release, an older one, or a person. What is written with every heartbeat or connect, and
read by nobody from there, does not count as a change.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TABLES = ("hosts", "assignments")
THIS_TRANSACTION = "pg_current_xact_id()::text::bigint"

NOTE_ASSIGNMENT = f"""
CREATE FUNCTION note_assignment_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  NEW.changed_in := {THIS_TRANSACTION};
  RETURN NEW;
END $$
"""
NOTE_HOST = f"""
CREATE FUNCTION note_host_change() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE same hosts%ROWTYPE; BEGIN
  same := NEW;
  same.last_seen := OLD.last_seen;
  same.boot_id := OLD.boot_id;
  same.agent_instance_id := OLD.agent_instance_id;
  same.session_epoch := OLD.session_epoch;
  same.event_sequence_acked := OLD.event_sequence_acked;
  IF same IS DISTINCT FROM OLD THEN
    NEW.changed_in := {THIS_TRANSACTION};
  END IF;
  RETURN NEW;
END $$
"""
# A host and its GPUs are read together.
NOTE_GPU = f"""
CREATE FUNCTION note_gpu_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  UPDATE hosts SET changed_in = {THIS_TRANSACTION}
    WHERE id = CASE TG_OP WHEN 'DELETE' THEN OLD.host_id ELSE NEW.host_id END
    AND changed_in <> {THIS_TRANSACTION};
  RETURN NULL;
END $$
"""  # noqa: S608 - the only thing put in is the constant above
TRIGGERS = (
    "CREATE TRIGGER note_change BEFORE UPDATE ON assignments FOR EACH ROW EXECUTE FUNCTION note_assignment_change()",
    "CREATE TRIGGER note_change BEFORE UPDATE ON hosts FOR EACH ROW EXECUTE FUNCTION note_host_change()",
    "CREATE TRIGGER note_presence AFTER INSERT OR DELETE ON gpus FOR EACH ROW EXECUTE FUNCTION note_gpu_change()",
    (
        "CREATE TRIGGER note_change AFTER UPDATE ON gpus FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*)"
        " EXECUTE FUNCTION note_gpu_change()"
    ),
)


def upgrade() -> None:
    """Add the columns, and what sets them."""
    for table in TABLES:
        op.add_column(
            table, sa.Column("changed_in", sa.BigInteger(), nullable=False, server_default=sa.text(THIS_TRANSACTION))
        )
    for statement in (NOTE_ASSIGNMENT, NOTE_HOST, NOTE_GPU, *TRIGGERS):
        op.execute(statement)


def downgrade() -> None:
    """Drop them; everything is read whole again."""
    for trigger, table in (
        ("note_change", "gpus"),
        ("note_presence", "gpus"),
        ("note_change", "hosts"),
        ("note_change", "assignments"),
    ):
        op.execute(f"DROP TRIGGER {trigger} ON {table}")
    for function in ("note_gpu_change", "note_host_change", "note_assignment_change"):
        op.execute(f"DROP FUNCTION {function}()")
    for table in TABLES:
        op.drop_column(table, "changed_in")
