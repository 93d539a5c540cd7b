"""``operator-create`` beside the database: a token on standard output, an operator and an audit entry in the database."""

import asyncio
import os
import stat
import sys
from datetime import UTC, datetime
from pathlib import Path

from studio_coordinator.identity import Identity
from studio_coordinator.store import audit, operators
from studio_coordinator.store.database import Database
from studio_coordinator.tokens import OPERATOR, Token


async def create(url: str, state: Path, *more: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "studio_coordinator", "operator-create", "--state-dir", str(state)),
        *("--name", "ann", "--role", "admin", *more),
        env=os.environ | {"STUDIO_DATABASE_URL": url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, out.decode(), err.decode()


async def test_the_first_operator_is_made_beside_the_database(database: Database, database_url: str, tmp_path: Path):
    url = database_url.replace("+asyncpg", "")
    code, out, err = await create(url, tmp_path / "one", "--expires-in-days", "1")
    assert (code, err) == (0, "")
    token = Token.read(out.strip(), OPERATOR)
    assert token is not None
    async with database.transaction() as conn:
        found = await operators.by_token(conn, token.id)
        (entry,) = await audit.list_entries(conn, 10)
    assert found is not None
    operator, digest = found
    assert token.is_hashed_as(digest, Identity.load(tmp_path / "one").pepper)
    assert operator.HasField("expires_at")
    assert (entry.action, entry.object) == ("operator-create", "Operator/ann")
    assert token.text not in str(entry)
    for name in ("key-pepper", "master-key", "coordinator-id"):
        assert stat.S_IMODE((tmp_path / "one" / name).stat().st_mode) == 0o600
    # A name is given once, and the secrets beside the database must be its own.
    assert "already" in (await create(url, tmp_path / "one"))[2]
    code, out, err = await create(url, tmp_path / "one", "--replace")
    assert (code, err) == (0, "")
    anew = Token.read(out.strip(), OPERATOR)
    assert anew is not None
    async with database.transaction() as conn:
        await operators.revoke_operator(conn, "ann", datetime.now(UTC))
    # One that was revoked is taken back as well, and each time the token before counts no more.
    code, out, _ = await create(url, tmp_path / "one", "--replace")
    last = Token.read(out.strip(), OPERATOR)
    assert last is not None
    async with database.transaction() as conn:
        assert [await operators.by_token(conn, old.id) for old in (token, anew)] == [None, None]
        found = await operators.by_token(conn, last.id)
        entries = await audit.list_entries(conn, 10)
    assert found is not None
    assert not found[0].HasField("revoked_at")
    assert not found[0].HasField("expires_at"), "as the last command said"
    assert [bool(entry.before) for entry in entries] == [False, True, True]
    code, out, err = await create(url, tmp_path / "two", "--name", "bob")
    assert (code, out) == (1, "")
    assert "--key-pepper-file" in err
