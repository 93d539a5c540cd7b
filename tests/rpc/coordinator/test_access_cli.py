"""The CLI with a token: log in, make operators, keep secrets, read and verify the audit log; refusals are exit code 7."""

import asyncio
import json
import os
import stat
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fakes.operators import Guarded, guarded_coordinator
from sqlalchemy import text
from studio_coordinator.store.database import Database

STUDIO = Path(sys.executable).parent / "studio"


@dataclass
class Console:
    """One person's machine: a home of its own."""

    home: Path
    address: str

    async def studio(self, *arguments: str, stdin: str = "", code: int = 0, **environment: str) -> str:
        """What it said, on standard output and error; ``code`` is how it is to end."""
        env = {name: value for name, value in os.environ.items() if not name.startswith(("STUDIO_", "XDG_"))}
        env |= {"HOME": str(self.home), "STUDIO_HOME": str(self.home / "none"), "COLUMNS": "250"} | environment
        process = await asyncio.create_subprocess_exec(
            *(STUDIO, *arguments),
            env=env,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await asyncio.wait_for(process.communicate(stdin.encode()), 60)
        assert process.returncode == code, said.decode()
        return said.decode()


@pytest.fixture
async def guarded(database: Database) -> AsyncIterator[Guarded]:
    async with guarded_coordinator(database) as coordinator:
        yield coordinator


@pytest.fixture
def console(guarded: Guarded, tmp_path: Path) -> Console:
    return Console(tmp_path, str(guarded.address))


async def test_login_keeps_a_token_that_works(guarded: Guarded, console: Console) -> None:
    refused = await console.studio("status", "--coordinator", console.address, code=7)
    assert "needs to know who calls" in refused
    assert "studio login" in refused
    admin = await guarded.operator("admin")
    login = ("login", "lab", "--coordinator", console.address)
    cut = await console.studio(*login, stdin=admin.token[:-1], code=7)
    assert "not copied whole" in cut
    said = await console.studio(*login, stdin=admin.token + "\n")
    assert "you are fleet-admin, admin of the whole fleet; the default context is now lab" in said
    folder = console.home / ".config" / "vllm-studio"
    for name in ("config.toml", "lab.token"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    assert json.loads(await console.studio("whoami", "-o", "json"))["name"] == "fleet-admin"
    # The context's token goes nowhere else.
    await console.studio("status", "--coordinator", console.address, code=7)
    await console.studio("status", "--coordinator", console.address, STUDIO_TOKEN_FILE=str(folder / "lab.token"))


async def test_a_token_is_not_sent_in_clear_text(console: Console) -> None:
    token = console.home / "token"
    token.write_text("vso_x")
    said = await console.studio("status", "--coordinator", "192.0.2.1:7070", code=2, STUDIO_TOKEN_FILE=str(token))
    assert "not sent in clear text" in said


async def test_operators_secrets_and_the_audit_log(guarded: Guarded, console: Console, database: Database) -> None:
    admin = await guarded.operator("admin")
    token = console.home / "admin.token"
    token.write_text(admin.token)
    console_of = {"STUDIO_COORDINATOR": console.address, "STUDIO_TOKEN_FILE": str(token)}

    async def studio(*arguments: str, stdin: str = "", code: int = 0) -> str:
        return await console.studio(*arguments, stdin=stdin, code=code, **console_of)

    made = await studio("operators", "create", "eve", "--role", "viewer", "--expires", "1h")
    assert made.startswith("vso_")
    assert "eve" in await studio("operators")
    await studio("secrets", "put", "hub", stdin="a-secret-value\n")
    listed = await studio("secrets")
    assert "hub" in listed
    assert "a-secret-value" not in listed
    await studio("secrets", "remove", "hub")
    assert "there is no secret hub" in await studio("secrets", "remove", "hub", code=3)
    await studio("operators", "revoke", "eve")
    entries = json.loads(await studio("audit", "list", "-o", "json"))
    actions = [entry["action"].partition("/")[2] for entry in entries if entry["actor"] == "fleet-admin"]
    assert actions == ["CreateOperator", "PutSecret", "RemoveSecret", "RemoveSecret", "RevokeOperator"]
    anchors = console.home / "anchors.jsonl"
    anchors.write_text((await studio("audit", "anchor")).splitlines()[0] + "\n")
    assert "are as they were written" in await studio("audit", "verify", "--anchors", str(anchors))
    async with database.transaction() as conn:
        await conn.execute(text("ALTER TABLE audit DISABLE TRIGGER ALL"))
        await conn.execute(text("DELETE FROM audit WHERE sequence = 2"))
        await conn.execute(text("ALTER TABLE audit ENABLE TRIGGER ALL"))
    assert "entry 2 is missing" in await studio("audit", "verify", code=1)
