"""``studio-coordinator operator-create``: the first operator of an installation, made beside its database.

Whoever may read the coordinator's state folder may do anything anyway; this gives them, or the play that provisions the
machine, a token to do it with through the front door. ``--replace`` is for who has lost theirs.
"""

import argparse
import asyncio
import getpass
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from studio.v1.access_service_pb2 import AuditEntry, CreateOperatorRequest, Operator
from studio_runtime.errors import StudioError

from studio_coordinator.access.describe import as_text, describe, without_secrets
from studio_coordinator.agreement import agree_on_keys
from studio_coordinator.embedded_postgres import prepare
from studio_coordinator.identity import Identity
from studio_coordinator.rpc.operators import checked_operator, create_operator
from studio_coordinator.storage_flags import StorageFlags, storage_flags
from studio_coordinator.store import audit
from studio_coordinator.store.database import Database
from studio_coordinator.tokens import OPERATOR, Token

ROLES = {"viewer": Operator.ROLE_VIEWER, "operator": Operator.ROLE_OPERATOR, "admin": Operator.ROLE_ADMIN}


def run(arguments: argparse.Namespace) -> None:
    """Make the operator; print its token, and nothing else, on standard output."""
    request = CreateOperatorRequest(name=arguments.name, role=ROLES[arguments.role], tenant=arguments.tenant)
    if arguments.expires_in_days is not None:
        request.expires_at.FromDatetime(datetime.now(UTC) + timedelta(days=arguments.expires_in_days))
    try:
        token = asyncio.run(create(storage_flags(arguments), request, replace=arguments.replace))
    except StudioError as error:
        sys.exit(f"{error.message}\n{error.hint}".strip())
    sys.stdout.write(token + "\n")


async def create(settings: StorageFlags, request: CreateOperatorRequest, *, replace: bool) -> str:
    """Store the operator and return its token; the audit log has what it replaced. Raises StudioError."""
    identity = Identity.load(settings.state_dir, settings.key_pepper_file, settings.master_key_file)
    database = Database(settings.database_url or prepare(settings.embedded_data_dir).url, pool_size=1)
    try:
        await database.upgrade(settings.owner_url)
        await agree_on_keys(database, identity)
        async with database.transaction() as conn:
            before = await describe(conn, f"Operator/{request.name}")
            operator, token = checked_operator(request), Token.new(OPERATOR)
            made = await create_operator(conn, operator, token, identity.pepper, replace=replace)
            await audit.append(conn, _entry(before, made.operator))
    finally:
        await database.close()
    return made.token


def _entry(before: Any, operator: Operator) -> AuditEntry:
    entry = AuditEntry(
        actor=f"{getpass.getuser()} on the coordinator's machine",
        role="local",
        action="operator-create",
        object=f"Operator/{operator.name}",
        before="" if before is None else as_text({f"Operator/{operator.name}": before}),
        after=as_text({f"Operator/{operator.name}": without_secrets(operator)}),
        outcome="OK",
    )
    entry.at.GetCurrentTime()
    return entry
