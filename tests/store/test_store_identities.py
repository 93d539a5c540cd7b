import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from studio.v1.access_service_pb2 import Authority, JoinToken
from studio.v1.identity_service_pb2 import Identity
from studio_coordinator.store import authorities, identities, join_tokens
from studio_coordinator.store.authorities import AuthorityRow
from studio_coordinator.store.database import Database
from studio_coordinator.store.identities import IdentityRow
from studio_runtime.errors import ConflictError, NotFoundError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HASH = b"h" * 32


def a_token(number: str = "a1", minutes: int = 15) -> JoinToken:
    token = JoinToken(id=number, kind=Identity.KIND_AGENT, name="h1", actor="alice")
    token.created_at.FromDatetime(NOW)
    token.expires_at.FromDatetime(NOW + timedelta(minutes=minutes))
    return token


def an_identity(
    node_id: str = "i1", name: str = "h1", kind: "Identity.Kind.ValueType" = Identity.KIND_AGENT
) -> IdentityRow:
    identity = Identity(id=node_id, kind=kind, name=name, generation=3, actor="alice")
    identity.created_at.FromDatetime(NOW)
    identity.expires_at.FromDatetime(NOW + timedelta(days=1))
    return IdentityRow(identity, 1, "key", "authority", frozenset({"authority", "next"}))


async def use(database: Database, token_id: str, secret_hash: bytes, now: datetime) -> JoinToken | None:
    async with database.transaction() as conn:
        return await join_tokens.use(conn, token_id, secret_hash, now)


async def test_of_a_hundred_transactions_one_has_the_token(database: Database):
    async with database.transaction() as conn:
        await join_tokens.create(conn, a_token(), HASH)
    answers = await asyncio.gather(*(use(database, "a1", HASH, NOW) for _ in range(100)))
    winners = [answer for answer in answers if answer is not None]
    assert len(winners) == 1
    assert winners[0].used_at.ToDatetime(UTC) == NOW


async def test_a_transaction_that_fails_gives_the_token_back(database: Database):
    async with database.transaction() as conn:
        await join_tokens.create(conn, a_token(), HASH)

    async def used_in_vain() -> None:
        async with database.transaction() as conn:
            assert await join_tokens.use(conn, "a1", HASH, NOW)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await used_in_vain()
    assert await use(database, "a1", HASH, NOW) is not None


async def test_another_secret_another_id_and_a_late_use_are_refused(database: Database):
    async with database.transaction() as conn:
        await join_tokens.create(conn, a_token(), HASH)
    assert await use(database, "a1", b"x" * 32, NOW) is None
    assert await use(database, "a2", HASH, NOW) is None
    assert await use(database, "a1", HASH, NOW + timedelta(minutes=15)) is None
    assert await use(database, "a1", HASH, NOW + timedelta(minutes=14)) is not None


async def test_old_tokens_go_and_used_ones_are_not_withdrawn(database: Database):
    async with database.transaction() as conn:
        await join_tokens.create(conn, a_token("a1"), HASH)
        await join_tokens.create(conn, a_token("a2", minutes=5), HASH)
        await join_tokens.use(conn, "a1", HASH, NOW)
        await join_tokens.used_by(conn, "a1", "i1")
        with pytest.raises(NotFoundError):
            await join_tokens.revoke(conn, "a1")
        await join_tokens.revoke(conn, "a2")
        assert [(token.id, token.used_by) for token in await join_tokens.list_tokens(conn)] == [("a1", "i1")]
        assert await join_tokens.prune(conn, NOW + timedelta(days=1)) == 1


async def test_an_identity_comes_back_as_it_was_stored_and_forgets_its_revocation_when_it_joins_again(
    database: Database,
):
    row = an_identity()
    async with database.transaction() as conn:
        await identities.put(conn, row)
        assert await identities.get(conn, "i1") == await identities.lock(conn, "i1") == row
        await identities.refuse(conn, "i1", "sold", NOW)
        assert await identities.list_refused(conn) == {"i1": "sold"}
        refused = await identities.find(conn, "h1")
        assert (refused.identity.locked_reason, refused.identity.revoked_at.ToDatetime(UTC)) == ("sold", NOW)
        await identities.put(conn, row)
        assert await identities.list_refused(conn) == {}


async def test_a_name_that_two_nodes_have_is_told_by_id(database: Database):
    async with database.transaction() as conn:
        await identities.put(conn, an_identity("i1"))
        await identities.put(conn, an_identity("i2", kind=Identity.KIND_GATEWAY))
        with pytest.raises(ConflictError, match="several") as refused:
            await identities.find(conn, "h1")
        assert "i1, i2" in refused.value.hint
        assert (await identities.find(conn, "i2")).identity.kind == Identity.KIND_GATEWAY
        with pytest.raises(NotFoundError):
            await identities.find(conn, "h2")


async def test_an_authority_goes_through_its_phases_and_away(database: Database):
    row = AuthorityRow("f1", Authority.PHASE_TRUSTED, b"pem", b"sealed", given=False, created_at=NOW, expires_at=NOW)
    async with database.transaction() as conn:
        await authorities.add(conn, row)
        await authorities.set_phase(conn, "f1", Authority.PHASE_SIGNING)
        assert [found.phase for found in await authorities.list_authorities(conn)] == [Authority.PHASE_SIGNING]
        await authorities.remove(conn, "f1")
        assert await authorities.list_authorities(conn) == []
