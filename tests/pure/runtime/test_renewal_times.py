"""When a node renews: at two thirds, each at its own moment, and when the authorities change."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from studio.v1.identity_service_pb2 import AuthoritiesInForce, Identity
from studio_coordinator.authority.certificates import Signer, make_authority, node_certificate
from studio_runtime.identity.names import NodeName
from studio_runtime.identity.proof import make_proof, proves
from studio_runtime.identity.renewal import LONGEST_RETRY_SECONDS, due_at, is_behind, retry_seconds
from studio_runtime.identity.stored import StoredIdentity, key_pem

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
OLD, NEW = make_authority(NOW), make_authority(NOW)
KEY = ec.generate_private_key(ec.SECP256R1())


def identity(signer: Signer, trusted: bytes) -> StoredIdentity:
    issued = node_certificate(signer, NodeName(Identity.KIND_AGENT, "h1", 3), KEY.public_key(), NOW, DAY)
    return StoredIdentity.parse(key_pem(KEY) + issued.chain, trusted)


@given(st.integers())
def test_it_is_due_about_two_thirds_into_its_life(seed: int) -> None:
    known = identity(OLD, OLD.pem)
    life = known.not_after - known.not_before
    assert 0.6 < (due_at(known, random.Random(seed).uniform) - known.not_before) / life < 0.73


def test_a_fleet_that_joined_together_does_not_renew_together() -> None:
    known, draw = identity(OLD, OLD.pem), random.Random(7).uniform
    moments = {due_at(known, draw) for _ in range(100)}
    assert max(moments) - min(moments) > timedelta(hours=1)


@given(st.integers(0, 10_000), st.integers())
def test_tries_never_stop_and_never_come_in_step(failures: int, seed: int) -> None:
    assert 0 <= retry_seconds(failures, random.Random(seed).uniform) <= LONGEST_RETRY_SECONDS


@pytest.mark.parametrize(
    ("held", "in_force", "behind"),
    [
        (identity(OLD, OLD.pem), ([OLD], OLD), False),
        (identity(OLD, OLD.pem), ([OLD, NEW], OLD), True),
        (identity(OLD, OLD.pem + NEW.pem), ([OLD, NEW], OLD), False),
        (identity(OLD, OLD.pem + NEW.pem), ([OLD, NEW], NEW), True),
        (identity(NEW, OLD.pem + NEW.pem), ([OLD, NEW], NEW), False),
        (identity(NEW, OLD.pem + NEW.pem), ([NEW], NEW), True),
        (identity(NEW, NEW.pem), ([NEW], NEW), False),
    ],
    ids=["settled", "new is trusted", "heard of it", "new signs", "signed by it", "old is gone", "done"],
)
def test_a_node_renews_at_each_step_of_a_rotation(
    held: StoredIdentity, in_force: tuple[list[Signer], Signer], behind: bool
) -> None:
    trusted, signing = in_force
    told = AuthoritiesInForce(trusted=[one.fingerprint for one in trusted], signing=signing.fingerprint)
    assert is_behind(held, told) == behind


def test_the_stored_identity_knows_who_it_is() -> None:
    known = identity(OLD, OLD.pem)
    assert known.name == NodeName(Identity.KIND_AGENT, "h1", 3)
    assert (known.trusted, known.signed_by) == ({OLD.fingerprint}, OLD.fingerprint)
    assert key_pem(KEY) not in repr(known).encode()


@given(st.binary(max_size=64), st.binary(max_size=64))
def test_a_proof_is_good_for_one_request_and_one_key(csr: bytes, other: bytes) -> None:
    proof = make_proof(KEY, csr)
    assert proves(KEY.public_key(), csr, proof)
    assert proves(KEY.public_key(), other, proof) == (other == csr)
    assert not proves(ec.generate_private_key(ec.SECP256R1()).public_key(), csr, proof)
    assert not proves(KEY.public_key(), csr, other)
