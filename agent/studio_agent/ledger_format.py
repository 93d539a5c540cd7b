"""The ledger on disk: its first line is the SHA-256 of the rest, and the rest is JSON with the contract's messages inside."""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message
from studio.v1.assignment_pb2 import AssignedReplica, Assignment
from studio.v1.replica_pb2 import Failure

from studio_agent.errors import LedgerUnreadableError
from studio_agent.plan.gpu_blame import Strikes
from studio_agent.plan.record import Engine, ReplicaRecord

FORMAT = 1

M = TypeVar("M", bound=Message)


@dataclass(frozen=True)
class Decoded:
    """What a ledger says."""

    assignment: Assignment | None
    highest_term: int
    records: dict[str, ReplicaRecord]
    strikes: Strikes


def encode(
    assignment: Assignment | None, highest_term: int, records: Iterable[ReplicaRecord], strikes: Strikes
) -> bytes:
    """The whole ledger as bytes; progress is left out."""
    body = {
        "format": FORMAT,
        "assignment": None if assignment is None else _packed(assignment),
        "highest_term": highest_term,
        "records": [encode_record(record) for record in records],
        "gpu_strikes": strikes.by_gpu,
    }
    text = json.dumps(body, indent=1).encode()
    return hashlib.sha256(text).hexdigest().encode() + b"\n" + text


def decode(content: bytes) -> Decoded:
    """What ``encode`` made into bytes. Raises LedgerUnreadableError."""
    digest, _, text = content.partition(b"\n")
    if hashlib.sha256(text).hexdigest().encode() != digest:
        raise LedgerUnreadableError("the ledger's digest does not match its content")
    try:
        body = json.loads(text)
        if body["format"] != FORMAT:
            raise LedgerUnreadableError(f"the ledger has format {body['format']}; this agent reads {FORMAT}")
        records = [decode_record(fields) for fields in body["records"]]
        packed = body["assignment"]
        return Decoded(
            assignment=None if packed is None else _unpacked(packed, Assignment()),
            highest_term=body["highest_term"],
            records={record.replica_id: record for record in records},
            # Ledgers of earlier agents do not have it.
            strikes=Strikes(body.get("gpu_strikes", {})),
        )
    except (KeyError, TypeError, ValueError) as error:
        # Whole, and yet not what this agent writes: better found again by the engines' marks than never started.
        raise LedgerUnreadableError(f"the ledger is of another agent: {error!r}") from error


def encode_record(record: ReplicaRecord) -> dict[str, Any]:
    """A record as plain data; progress and suspicion are left out."""
    return {
        "replica_id": record.replica_id,
        "generation": record.generation,
        "assigned": _packed(record.assigned),
        "state": record.state,
        "reason": record.reason,
        "since": record.since,
        "engine": None if record.engine is None else asdict(record.engine),
        "restarts": list(record.restarts),
        "restart_count": record.restart_count,
        "port_conflicts": record.port_conflicts,
        "failure": None if record.failure is None else _packed(record.failure),
        "retry_at": record.retry_at,
        "retry_is_free": record.retry_is_free,
        "gave_up": record.gave_up,
        "taken_ports": list(record.taken_ports),
        "holds_unknown": record.holds_unknown,
        "asleep": record.asleep,
        "sleep_level": record.sleep_level,
    }


def decode_record(fields: Mapping[str, Any]) -> ReplicaRecord:
    """The record that ``encode_record`` made plain. Raises KeyError, TypeError or ValueError."""
    return ReplicaRecord(
        assigned=_unpacked(fields["assigned"], AssignedReplica()),
        state=fields["state"],
        reason=fields["reason"],
        since=fields["since"],
        engine=None if fields["engine"] is None else _engine(fields["engine"]),
        restarts=tuple(fields["restarts"]),
        restart_count=fields["restart_count"],
        port_conflicts=fields["port_conflicts"],
        failure=None if fields["failure"] is None else _unpacked(fields["failure"], Failure()),
        retry_at=fields["retry_at"],
        retry_is_free=fields["retry_is_free"],
        gave_up=fields["gave_up"],
        taken_ports=tuple(fields["taken_ports"]),
        holds_unknown=fields["holds_unknown"],
        # Ledgers of earlier agents do not have it.
        asleep=fields.get("asleep", False),
        sleep_level=fields.get("sleep_level", 1 if fields.get("asleep", False) else 0),
    )


def _engine(known: Mapping[str, Any]) -> Engine:
    """Without what a newer agent added: after a downgrade its engines are adopted all the same."""
    return Engine(**{each.name: known[each.name] for each in fields(Engine) if each.name in known})


def _packed(message: Message) -> str:
    """Binary, because JSON would lose the fields of a newer coordinator."""
    return base64.b64encode(message.SerializeToString(deterministic=True)).decode("ascii")


def _unpacked(text: str, message: M) -> M:
    try:
        message.ParseFromString(base64.b64decode(text, validate=True))
    except DecodeError as error:
        raise ValueError(f"not a {message.DESCRIPTOR.name}: {error}") from error
    return message
