"""A host is called what its certificate says, unless engines run here that know it by another name."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fakes.agent_records import a_record
from studio.v1.identity_service_pb2 import Certificate, Identity
from studio_agent.enrol import agree_on_host_id
from studio_agent.ledger import FileStore, Ledger
from studio_agent.settings import StateFolder
from studio_coordinator.authority.certificates import make_authority, node_certificate
from studio_runtime.errors import SafetyError
from studio_runtime.identity.names import NodeName
from studio_runtime.identity.stored import parse_key


def join(state: StateFolder, host_id: str) -> None:
    now = datetime.now(UTC)
    authority = make_authority(now)
    key = parse_key(state.identity.next_key()).public_key()
    issued = node_certificate(authority, NodeName(Identity.KIND_AGENT, host_id, 1), key, now, timedelta(hours=1))
    state.identity.take(Certificate(chain=issued.chain, authorities=authority.pem))


def test_a_new_host_takes_the_id_of_its_certificate(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    join(state, "h1")
    agree_on_host_id(state)
    assert state.host_id() == "h1"


def test_one_that_has_not_joined_keeps_its_own(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    before = state.host_id()
    agree_on_host_id(state)
    assert state.host_id() == before


async def test_another_id_waits_until_no_engine_of_the_old_one_is_left(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    before = state.host_id()
    join(state, "h1")
    ledger = Ledger.load(FileStore(state.ledger))
    record = a_record()
    ledger.put(record)
    await ledger.flush()
    with pytest.raises(SafetyError, match="1 engines run here"):
        agree_on_host_id(state)
    assert state.host_id() == before
    ledger.forget(record.replica_id)
    await ledger.flush()
    agree_on_host_id(state)
    assert state.host_id() == "h1"
