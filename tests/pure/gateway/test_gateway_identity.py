"""What a gateway is called by."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from studio.v1.identity_service_pb2 import Certificate, Identity
from studio_coordinator.authority.certificates import make_authority, node_certificate
from studio_gateway.enrol import GatewayIdentity
from studio_runtime.identity.folder import IdentityFolder
from studio_runtime.identity.names import NodeName
from studio_runtime.identity.stored import parse_key


def join(state: Path, gateway_id: str) -> None:
    now, folder = datetime.now(UTC), IdentityFolder(state / "identity")
    authority = make_authority(now)
    key = parse_key(folder.next_key()).public_key()
    issued = node_certificate(authority, NodeName(Identity.KIND_GATEWAY, gateway_id, 1), key, now, timedelta(hours=1))
    folder.take(Certificate(chain=issued.chain, authorities=authority.pem))


def test_one_that_has_not_joined_keeps_the_name_it_made(tmp_path: Path) -> None:
    first = GatewayIdentity(tmp_path, is_worker=False)
    assert first.gateway_id == GatewayIdentity(tmp_path, is_worker=False).gateway_id
    assert first.tls() is None
    assert first.renewal() is None


def test_one_that_has_joined_and_its_workers(tmp_path: Path) -> None:
    join(tmp_path, "g1")
    alone = GatewayIdentity(tmp_path, is_worker=False)
    worker = GatewayIdentity(tmp_path / "worker-3", is_worker=True)
    assert (alone.gateway_id, worker.gateway_id) == ("g1", "g1/worker-3")
    assert alone.tls() == worker.tls() is not None
    assert worker.renewal() is not None


def test_a_damaged_identity_is_no_end_of_serving(tmp_path: Path) -> None:
    join(tmp_path, "g1")
    known = GatewayIdentity(tmp_path, is_worker=False)
    (tmp_path / "identity" / "identity.pem").write_text("nothing")
    assert known.tls() is None
