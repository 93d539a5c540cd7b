"""What a coordinator's own role may do in a database that another role owns: read and write rows, but only add to the audit log.

=========================== =================================================================================
``audit``                   read, add
``audit_head``              read, change: its one row is where the chain ends
the schema's own two tables read
partitioned tables          own them, for making and dropping the partitions of a day is an owner's right
any other table             read, add, change, remove
=========================== =================================================================================

It owns nothing else, so it can neither turn the audit log's trigger off nor give itself more.
"""

from sqlalchemy import Connection, text
from studio_runtime.errors import InvalidError

READ_ONLY = frozenset({"alembic_version", "schema_info"})
RIGHTS = {"audit": "SELECT, INSERT", "audit_head": "SELECT, UPDATE", **dict.fromkeys(READ_ONLY, "SELECT")}
ANY_OTHER = "SELECT, INSERT, UPDATE, DELETE"

OWNERS_OF_ALL = text(
    "SELECT bool_or(pg_has_role(roles.oid, owned.relowner, 'MEMBER')) FROM pg_roles AS roles, pg_class AS owned"
    " WHERE roles.rolname = :login AND owned.oid = 'audit'::regclass"
)
TABLES = text(
    "SELECT relname, relkind = 'p' OR relispartition AS is_partitioned FROM pg_class"
    " WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p') ORDER BY relname"
)


def grant(connection: Connection, login: str) -> None:
    """Give ``login`` just these rights, inside the owner's transaction. Raises InvalidError for who owns the log anyway."""
    if connection.execute(OWNERS_OF_ALL, {"login": login}).scalar_one():
        raise InvalidError(
            f"the role {login} is, or may become, the owner of the audit log, which it is to be kept from",
            "STUDIO_DATABASE_URL has to name a role of its own, neither superuser nor member of the owner's.",
        )
    quote = connection.dialect.identifier_preparer.quote
    role, schema = quote(login), quote(connection.execute(text("SELECT current_schema()")).scalar_one())
    statements = [f"GRANT USAGE, CREATE ON SCHEMA {schema} TO {role}"]
    for name, is_partitioned in connection.execute(TABLES).all():
        if is_partitioned:
            statements.append(f"ALTER TABLE {quote(name)} OWNER TO {role}")
            continue
        statements.append(f"REVOKE ALL ON {quote(name)} FROM {role}")
        statements.append(f"GRANT {RIGHTS.get(name, ANY_OTHER)} ON {quote(name)} TO {role}")
    statements.append(f"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO {role}")
    for statement in statements:
        connection.execute(text(statement))
