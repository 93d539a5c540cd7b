"""Joining and renewing over a real port, with the code that nodes run."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from fakes.agent import FakeAgent
from fakes.ports import free_port
from fakes.tls_coordinator import TlsCoordinator, hello, joined, renew, tls_coordinator
from studio.v1.access_service_pb2 import (
    ListAuditRequest,
    ListIdentitiesRequest,
    ListJoinTokensRequest,
    RevokeJoinTokenRequest,
    RotateAuthorityRequest,
)
from studio.v1.access_service_pb2_grpc import AccessServiceStub
from studio.v1.identity_service_pb2 import Identity
from studio_coordinator.authority.certificates import Signer, make_authority, node_certificate
from studio_coordinator.authority.enrolment import Validity
from studio_coordinator.authority.office import AuthorityOffice
from studio_coordinator.sealing import KEY_BYTES, MasterKey, Sealer
from studio_coordinator.store import events, hosts
from studio_coordinator.store.database import Database
from studio_runtime.errors import DeniedError, InvalidError, StudioError, UnauthenticatedError, UnavailableError
from studio_runtime.identity.folder import IdentityFolder
from studio_runtime.identity.join import Joining, join
from studio_runtime.identity.pinning import WrongAuthorityError
from studio_runtime.identity.renewal import Renewal, is_behind
from studio_runtime.identity.stored import StoredIdentity, key_pem, new_key
from studio_runtime.settings import Address

AGENT = Identity.KIND_AGENT
HOUR = timedelta(hours=1)


@pytest.fixture
async def coordinator(database: Database, tmp_path: Path) -> AsyncIterator[TlsCoordinator]:
    async with tls_coordinator(database, tmp_path / "coordinator") as running:
        yield running


async def identities(coordinator: TlsCoordinator) -> dict[str, Identity]:
    async with coordinator.access() as access:
        answer = await access.ListIdentities(ListIdentitiesRequest(), metadata=coordinator.metadata)
    return {identity.name: identity for identity in answer.identities}


@asynccontextmanager
async def speaking(coordinator: TlsCoordinator, folder: IdentityFolder) -> AsyncIterator[FakeAgent]:
    async with coordinator.channel(folder.tls()) as channel:
        agent = await FakeAgent(channel, "h1").open(hello("h1"))
        yield agent
        agent.hang_up()


async def test_a_host_joins_and_is_let_in(coordinator: TlsCoordinator, tmp_path: Path) -> None:
    folder = await joined(coordinator, tmp_path / "identity")
    stored = folder.load()
    assert stored.name.generation == 1
    assert stored.signed_by == coordinator.office.keyring.signing.fingerprint
    assert {file.name: oct(file.stat().st_mode & 0o777) for file in folder.root.iterdir()} == dict.fromkeys(
        ("identity.pem", "authorities.pem", "coordinators"), "0o600"
    )
    assert folder.root.stat().st_mode & 0o777 == 0o700
    async with speaking(coordinator, folder) as agent:
        assert agent.welcome.host_name == "h1"


async def test_that_a_node_joined_is_in_the_audit_log(coordinator: TlsCoordinator, tmp_path: Path) -> None:
    await joined(coordinator, tmp_path / "identity")
    async with coordinator.access() as access:
        listed = await access.ListAudit(ListAuditRequest(object="Identity/h1"), metadata=coordinator.metadata)
        made = await access.ListAudit(ListAuditRequest(object="JoinToken/h1"), metadata=coordinator.metadata)
    (entry,) = listed.entries
    assert (entry.actor, entry.role, entry.action, entry.outcome) == ("h1", "agent", "IdentityService/Join", "OK")
    assert entry.peer.startswith("ipv4:127.0.0.1:")
    assert json.loads(entry.after)["token_of"] == made.entries[0].actor


async def test_a_join_that_breaks_off_leaves_no_identity_that_cannot_be_renewed(
    coordinator: TlsCoordinator, tmp_path: Path
) -> None:
    # What the file with the coordinators' addresses cannot replace.
    (tmp_path / "identity/coordinators").mkdir(parents=True)
    with pytest.raises(OSError, match="coordinators"):
        await joined(coordinator, tmp_path / "identity")
    assert not IdentityFolder(tmp_path / "identity").exists
    (tmp_path / "identity/coordinators").rmdir()
    assert await renew(await joined(coordinator, tmp_path / "identity"))


async def test_a_used_old_or_withdrawn_token_is_good_for_nothing(coordinator: TlsCoordinator, tmp_path: Path) -> None:
    await joined(coordinator, tmp_path / "first")
    withdrawn = await coordinator.join_token(name="h2")
    async with coordinator.access() as access:
        listed = await access.ListJoinTokens(ListJoinTokensRequest(), metadata=coordinator.metadata)
        await access.RevokeJoinToken(RevokeJoinTokenRequest(id=withdrawn.token.id), metadata=coordinator.metadata)
        used = next(token for token in listed.tokens if token.id != withdrawn.token.id)
        assert used.used_by == (await identities(coordinator))["h1"].id
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await access.RevokeJoinToken(RevokeJoinTokenRequest(id=used.id), metadata=coordinator.metadata)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    joining = Joining(AGENT, "h2", [coordinator.admin_address], withdrawn.authority_fingerprint)
    with pytest.raises(UnauthenticatedError, match="not good"):
        await join(IdentityFolder(tmp_path / "second"), joining, withdrawn.secret)
    assert not IdentityFolder(tmp_path / "second").exists


async def test_a_node_sends_nothing_to_another_authority(coordinator: TlsCoordinator, tmp_path: Path) -> None:
    token = await coordinator.join_token(name="h1")
    other = make_authority(datetime.now(UTC))
    with pytest.raises(WrongAuthorityError, match="not signed"):
        await join(
            IdentityFolder(tmp_path / "a"),
            Joining(AGENT, "h1", [coordinator.admin_address], other.fingerprint),
            token.secret,
        )
    (tmp_path / "ca.pem").write_bytes(other.pem)
    with pytest.raises(StudioError):
        await join(
            IdentityFolder(tmp_path / "b"),
            Joining(AGENT, "h1", [coordinator.admin_address], ca_file=tmp_path / "ca.pem"),
            token.secret,
        )
    # It was not used by either.
    (tmp_path / "ca.pem").write_bytes(coordinator.office.keyring.bundle)
    good = Joining(AGENT, "h1", [coordinator.admin_address], ca_file=tmp_path / "ca.pem")
    await join(IdentityFolder(tmp_path / "c"), good, token.secret)


async def test_a_token_of_another_kind_is_not_even_sent(coordinator: TlsCoordinator, tmp_path: Path) -> None:
    token = await coordinator.join_token(Identity.KIND_GATEWAY)
    joining = Joining(AGENT, "h1", [coordinator.admin_address], token.authority_fingerprint)
    with pytest.raises(InvalidError, match="gateway"):
        await join(IdentityFolder(tmp_path / "identity"), joining, token.secret)


async def test_a_token_without_a_name_is_for_names_that_are_new(coordinator: TlsCoordinator, tmp_path: Path) -> None:
    await joined(coordinator, tmp_path / "first")
    token = await coordinator.join_token()
    taken = Joining(AGENT, "h1", [coordinator.admin_address], token.authority_fingerprint)
    with pytest.raises(StudioError, match="known already"):
        await join(IdentityFolder(tmp_path / "second"), taken, token.secret)
    other = Joining(AGENT, "h2", [coordinator.admin_address], token.authority_fingerprint)
    await join(IdentityFolder(tmp_path / "second"), other, token.secret)
    assert set(await identities(coordinator)) == {"h1", "h2"}


async def test_a_host_from_the_time_before_tls_keeps_its_id(
    coordinator: TlsCoordinator, database: Database, tmp_path: Path
) -> None:
    async with database.transaction() as conn:
        await hosts.open_session(conn, hello("h1", "old-id"), "old-id", datetime.now(UTC))
    folder = await joined(coordinator, tmp_path / "identity")
    assert folder.load().name.id == "old-id"


async def test_renewal_raises_the_generation_and_changes_the_key(coordinator: TlsCoordinator, tmp_path: Path) -> None:
    folder = await joined(coordinator, tmp_path / "identity")
    before = folder.load()
    after = await renew(folder)
    assert after is not None
    assert after.name.generation == 2
    assert after.key.public_key() != before.key.public_key()
    async with speaking(coordinator, folder):
        pass


async def test_another_coordinator_is_asked_where_one_is_away(coordinator: TlsCoordinator, tmp_path: Path) -> None:
    away = Address("127.0.0.1", free_port())
    token = await coordinator.join_token()
    both = Joining(AGENT, "h1", [away, coordinator.admin_address], token.authority_fingerprint)
    folder = IdentityFolder(tmp_path / "identity")
    await join(folder, both, token.secret)
    assert folder.coordinators() == [away, coordinator.admin_address]
    assert (await renew(folder)) is not None
    folder.keep_coordinators([away])
    with pytest.raises(UnavailableError):
        await renew(folder)


async def test_what_is_said_during_a_renewal_is_not_forgotten(coordinator: TlsCoordinator, tmp_path: Path) -> None:
    """Each step of a rotation is taken up, however soon after the one before it comes."""
    folder = await joined(coordinator, tmp_path / "identity")
    renewal = Renewal(folder, lambda low, _high: low)
    renewing = asyncio.create_task(renewal.run())
    async with coordinator.access() as access, asyncio.timeout(30):
        for _ in range(2):
            await rotated(coordinator, access)
            renewal.hear(coordinator.office.keyring.in_force())
        while is_behind(folder.load(), coordinator.office.keyring.in_force()):
            await asyncio.sleep(0.02)
    renewing.cancel()


async def rotated(coordinator: TlsCoordinator, access: AccessServiceStub) -> None:
    """Take the next step as soon as the coordinator allows it: the node may not even have stored what it was answered."""
    while True:
        call = access.RotateAuthority(RotateAuthorityRequest(), metadata=coordinator.metadata)
        if await call.code() is grpc.StatusCode.OK:
            await coordinator.office.refresh()
            return
        assert await call.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_an_answer_that_was_lost_is_given_again(coordinator: TlsCoordinator, tmp_path: Path) -> None:
    folder = await joined(coordinator, tmp_path / "identity")
    renewal = Renewal(folder, lambda _low, high: high)
    lost = await renewal._ask(folder.load())
    async with speaking(coordinator, folder):
        pass
    again = await renew(folder)
    assert again is not None
    assert again.name.generation == lost.identity.generation == 2
    assert (await renew(folder) or again).name.generation == 3


async def test_the_second_of_two_copies_is_locked_out_and_a_new_token_heals(
    coordinator: TlsCoordinator, database: Database, tmp_path: Path
) -> None:
    folder = await joined(coordinator, tmp_path / "identity")
    shutil.copytree(folder.root, tmp_path / "copy")
    copy = IdentityFolder(tmp_path / "copy")
    await renew(folder)
    with pytest.raises(DeniedError, match="two machines"):
        await renew(copy)
    # Which of them is the right one, nobody can tell.
    with pytest.raises(DeniedError, match="two machines"):
        await renew(folder)
    with pytest.raises(grpc.aio.AioRpcError, match="two machines"):
        async with speaking(coordinator, folder):
            pass
    async with database.transaction() as conn:
        told = [event.kind for event in await events.list_events(conn, limit=10, host="h1")]
    assert told.count("identity.locked") == 1
    old_id = folder.load().name.id
    await joined(coordinator, folder.root)
    assert folder.load().name.id == old_id
    async with speaking(coordinator, folder):
        pass
    # The copy is of an earlier life now: it can neither go on nor lock the right one again.
    with pytest.raises(DeniedError, match="joined again"):
        await renew(copy)
    assert await renew(folder) is not None


async def aged(folder: IdentityFolder, signer: Signer, at: datetime) -> None:
    """Put a certificate of the same node, key and generation in its place that counts for an hour from ``at``."""
    stored = folder.load()
    chain = node_certificate(signer, stored.name, stored.key.public_key(), at, HOUR).chain
    (folder.root / "identity.pem").write_bytes(key_pem(stored.key) + chain)


async def test_a_certificate_that_ran_out_is_renewed_while_the_grace_lasts(
    coordinator: TlsCoordinator, tmp_path: Path
) -> None:
    folder = await joined(coordinator, tmp_path / "identity")
    await aged(folder, coordinator.office.keyring.signing, datetime.now(UTC) - timedelta(days=29))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        async with speaking(coordinator, folder):
            pass
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    renewed = await renew(folder)
    assert renewed is not None
    assert renewed.not_after > datetime.now(UTC)
    async with speaking(coordinator, folder):
        pass


@pytest.mark.parametrize(
    ("days", "is_ours", "said"),
    [(-31, True, "too long ago"), (2, True, "not valid yet"), (-1, False, "no authority that counts")],
)
async def test_other_certificates_are_not_renewed(
    coordinator: TlsCoordinator, tmp_path: Path, days: int, is_ours: bool, said: str
) -> None:
    folder = await joined(coordinator, tmp_path / "identity")
    now = datetime.now(UTC)
    signer = coordinator.office.keyring.signing if is_ours else make_authority(now)
    await aged(folder, signer, now + timedelta(days=days))
    with pytest.raises(UnauthenticatedError, match=said):
        await renew(folder)
    # Nobody is locked by what anybody can make up.
    assert not (await identities(coordinator))["h1"].locked_reason


async def test_short_certificates_are_renewed_on_and_on_by_both_sides(database: Database, tmp_path: Path) -> None:
    short = Validity(lifetime=timedelta(seconds=5))
    async with tls_coordinator(database, tmp_path / "coordinator", short) as coordinator:
        folder = await joined(coordinator, tmp_path / "identity")
        renewing = asyncio.create_task(Renewal(folder, lambda low, _high: low).run())
        async with asyncio.timeout(60):
            while (generation := folder.load().name.generation) < 3:
                await asyncio.sleep(0.05)
            assert generation == 3, "it renews when it is time, not all the time"
            # By now the certificates of the beginning have run out, the coordinator's as well.
            while not await is_let_in(coordinator, folder):
                await asyncio.sleep(0.05)
        renewing.cancel()


async def is_let_in(coordinator: TlsCoordinator, folder: IdentityFolder) -> bool:
    try:
        async with speaking(coordinator, folder):
            return True
    except grpc.aio.AioRpcError:
        return False


async def test_a_master_key_that_was_changed_seals_the_authority_anew(database: Database) -> None:
    old, new = MasterKey(b"o" * KEY_BYTES), MasterKey(b"n" * KEY_BYTES)
    first = AuthorityOffice(database, Sealer((old,)))
    await first.open()
    await AuthorityOffice(database, Sealer((new, old))).open()
    last = AuthorityOffice(database, Sealer((new,)))
    await last.open()
    assert last.keyring.signing.fingerprint == first.keyring.signing.fingerprint


async def test_a_certificate_alone_renews_nothing(coordinator: TlsCoordinator, tmp_path: Path) -> None:
    """It is public: what counts is its key."""
    folder = await joined(coordinator, tmp_path / "identity")
    thief = IdentityFolder(tmp_path / "thief")
    shutil.copytree(folder.root, thief.root)
    chain = (folder.root / "identity.pem").read_bytes().partition(b"-----BEGIN CERTIFICATE-----")
    (thief.root / "identity.pem").write_bytes(new_key() + chain[1] + chain[2])
    with pytest.raises(UnauthenticatedError, match="does not have the key"):
        await renew(thief)
    assert await renew(folder) is not None


async def test_several_processes_of_one_noderenew_once(coordinator: TlsCoordinator, tmp_path: Path) -> None:
    folder = await joined(coordinator, tmp_path / "identity")
    seen = folder.load()
    renewals = [Renewal(folder, lambda _low, high: high) for _ in range(4)]
    answers = await asyncio.gather(*(one.renew_once(seen) for one in renewals), return_exceptions=True)
    assert sum(isinstance(answer, StoredIdentity) for answer in answers) == 1
    assert folder.load().name.generation == 2
    # Whoever comes later finds it done.
    assert await renewals[0].renew_once(seen) is None
