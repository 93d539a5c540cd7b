"""``studio hosts identities|tokens``, ``studio gateways``, ``studio authority show``."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp
from studio.v1.access_service_pb2 import Authority, JoinToken
from studio.v1.identity_service_pb2 import Identity

from studio_cli import wording
from studio_cli.views.table import Column, Row, Table

IDENTITY_COLUMNS = (
    Column("NAME"),
    Column("KIND"),
    Column("STATE"),
    Column("CERTIFICATE", ticking=True),
    Column("GENERATION", right=True),
    Column("AGE", ticking=True),
    Column("ID", wide=True),
    Column("BY", wide=True),
    Column("WHY"),
)
TOKEN_COLUMNS = (
    Column("ID"),
    Column("KIND"),
    Column("NAME"),
    Column("STATE"),
    Column("EXPIRES", ticking=True),
    Column("USED BY"),
    Column("BY", wide=True),
)
AUTHORITY_COLUMNS = (
    Column("FINGERPRINT"),
    Column("PHASE"),
    Column("NODES", right=True),
    Column("AGE", ticking=True),
    Column("EXPIRES", ticking=True),
)

# Kinds of nodes whose role has a `join` of its own.
PROGRAMS = ("agent", "gateway")


def identity_table(identities: Iterable[Identity], now: datetime, empty: str) -> Table:
    """Who may call, and who no longer."""
    rows = tuple(
        Row(
            identity.id,
            (
                identity.name,
                kind_of(identity.kind),
                identity_state(identity, now),
                until(identity.expires_at, now),
                str(identity.generation),
                wording.age(identity.created_at, now),
                identity.id,
                identity.actor or wording.NOTHING,
                identity.locked_reason,
            ),
        )
        for identity in sorted(identities, key=lambda one: (one.kind, one.name))
    )
    return Table(IDENTITY_COLUMNS, rows, empty)


def token_table(tokens: Iterable[JoinToken], now: datetime) -> Table:
    """Tokens without their secrets, which nobody has any more."""
    rows = tuple(
        Row(
            token.id,
            (
                token.id,
                kind_of(token.kind),
                token.name or "any new one",
                token_state(token, now),
                until(token.expires_at, now),
                token.used_by or wording.NOTHING,
                token.actor or wording.NOTHING,
            ),
        )
        for token in tokens
    )
    return Table(TOKEN_COLUMNS, rows, "there is no join token: studio hosts token makes one")


def authority_table(authorities: Iterable[Authority], now: datetime) -> Table:
    """Who signs certificates, and who is trusted."""
    rows = tuple(
        Row(
            authority.fingerprint,
            (
                authority.fingerprint,
                Authority.Phase.Name(authority.phase).removeprefix("PHASE_"),
                str(authority.identities),
                wording.age(authority.created_at, now),
                until(authority.expires_at, now),
            ),
        )
        for authority in authorities
    )
    return Table(AUTHORITY_COLUMNS, rows, "there is no authority")


def how_to_join(text_is_for: JoinToken, fingerprint: str, now: datetime) -> Iterator[str]:
    """What to do with a new token, for the person who made it."""
    kind = kind_of(text_is_for.kind)
    whom = f"{kind} {text_is_for.name}" if text_is_for.name else f"one new {kind}"
    yield f"for {whom}, {until(text_is_for.expires_at, now)}, once; it is shown only now"
    program = f"studio-{kind} join" if kind in PROGRAMS else f"python -m studio_runtime.identity join --kind {kind}"
    yield f"there: {program} --coordinator HOST:7072 --fingerprint {fingerprint} --token-file FILE"


def kind_of(kind: Identity.Kind.ValueType) -> str:
    """``agent``, ``gateway``, ``console``."""
    return Identity.Kind.Name(kind).removeprefix("KIND_").lower()


def identity_state(identity: Identity, now: datetime) -> str:
    """``valid``, ``expired``, ``locked`` or ``revoked``."""
    if identity.HasField("revoked_at"):
        return "revoked"
    if identity.locked_reason:
        return "locked"
    return "expired" if wording.moment(identity.expires_at) <= now else "valid"


def token_state(token: JoinToken, now: datetime) -> str:
    """``used``, ``expired`` or ``open``."""
    if token.HasField("used_at"):
        return "used"
    return "expired" if wording.moment(token.expires_at) <= now else "open"


def until(stamp: Timestamp, now: datetime) -> str:
    """``in 14m``, ``2h ago``."""
    left = (wording.moment(stamp) - now).total_seconds()
    return f"in {wording.duration(left)}" if left > 0 else f"{wording.duration(-left)} ago"
