"""Joining and renewing by command, as playbooks and operators do."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from fakes.tls_coordinator import TlsCoordinator, joined, tls_coordinator
from studio.v1.access_service_pb2 import GetCallerRequest, Operator
from studio.v1.access_service_pb2_grpc import AccessServiceStub
from studio.v1.identity_service_pb2 import Identity
from studio_coordinator.store.database import Database
from studio_runtime.identity.folder import IdentityFolder

SOMEBODY = 23_456


@pytest.fixture
async def coordinator(database: Database, tmp_path: Path) -> AsyncIterator[TlsCoordinator]:
    async with tls_coordinator(database, tmp_path / "coordinator") as running:
        yield running


async def identity_command(*arguments: str, stdin: str = "") -> str:
    """``python -m studio_runtime.identity``: what it says."""
    argv = [sys.executable, "-m", "studio_runtime.identity", *arguments]
    both = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*argv, stdin=both, stdout=both)
    said, _ = await process.communicate(stdin.encode())
    assert process.returncode == 0, said
    return said.decode()


async def test_a_console_joins_and_renews_by_the_commands_that_belong_to_no_role(
    coordinator: TlsCoordinator, tmp_path: Path
) -> None:
    token = await coordinator.join_token(Identity.KIND_CONSOLE, "web")
    where = ("--coordinator", str(coordinator.admin_address), "--fingerprint", token.authority_fingerprint)
    rest = ("--kind", "console", "--name", "web", "--token-file", "-", "--state-dir", str(tmp_path))
    assert "joined as console web" in await identity_command("join", *where, *rest, stdin=token.secret)
    folder = IdentityFolder(tmp_path / "identity")
    async with coordinator.channel(folder.tls()) as channel:
        access = AccessServiceStub(channel)
        assert (await access.GetCaller(GetCallerRequest(), metadata=coordinator.metadata)).role == Operator.ROLE_ADMIN
    before = folder.load()
    assert "not renewed before" in await identity_command("renew", "--state-dir", str(tmp_path))
    assert folder.load().chain == before.chain
    assert "generation 2" in await identity_command("renew", "--state-dir", str(tmp_path), "--now")
    after = folder.load()
    assert (after.name.id, after.name.generation) == (before.name.id, 2)
    assert after.key.public_key() != before.key.public_key()
    async with coordinator.channel(folder.tls()) as channel:
        assert (await AccessServiceStub(channel).GetCaller(GetCallerRequest(), metadata=coordinator.metadata)).role


@pytest.mark.skipif(os.geteuid() != 0, reason="only root joins for another user")
async def test_what_root_leaves_when_its_join_breaks_off_is_the_owners(coordinator: TlsCoordinator) -> None:
    # Not in tmp_path, into which nobody but root may look.
    with TemporaryDirectory() as name:
        state = Path(name)
        os.chown(state, SOMEBODY, SOMEBODY)
        (state / "identity/identity.pem").mkdir(parents=True)
        with pytest.raises(OSError, match=r"identity\.pem"):
            await joined(coordinator, state / "identity")
        assert {owner for _, owner in owners(state)} == {SOMEBODY}
        (state / "identity/identity.pem").rmdir()
        await joined(coordinator, state / "identity")
        assert "generation 4" in await identity_command("renew", "--state-dir", name, "--now")
        assert set(owners(state)) == {
            (name, SOMEBODY) for name in ("identity", "identity.pem", "authorities.pem", "coordinators", ".renewing")
        }
        assert os.geteuid() == 0


def owners(state: Path) -> list[tuple[str, int]]:
    return [(file.name, file.stat().st_uid) for file in state.rglob("*")]
