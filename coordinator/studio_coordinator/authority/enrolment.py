"""The transactions of joining and renewing, and the one check of a node that calls."""

import hashlib
import hmac
import json
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from studio.v1.access_service_pb2 import AuditEntry, JoinToken
from studio.v1.event_pb2 import Event
from studio.v1.identity_service_pb2 import Certificate, Identity, JoinRequest, RenewRequest
from studio_runtime.certificates import key_fingerprint
from studio_runtime.errors import ConflictError, DeniedError, InvalidError, UnauthenticatedError
from studio_runtime.identity.join_token import JoinTokenText
from studio_runtime.identity.names import NodeName, kind_word
from studio_runtime.identity.proof import proves
from studio_runtime.identity.stored import node_name

from studio_coordinator.authority.certificates import CLOCK_SKEW, node_certificate, requested_key
from studio_coordinator.authority.keyring import Keyring
from studio_coordinator.authority.office import AuthorityOffice
from studio_coordinator.authority.renewal_rule import Verdict, judge, judge_call
from studio_coordinator.store import audit, events, identities, join_tokens
from studio_coordinator.store.database import Connection, Database
from studio_coordinator.store.identities import IdentityRow

log = structlog.get_logger()

LONGEST_TOKEN_LIFE = timedelta(minutes=15)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
TWO_MACHINES = "two machines hold this identity"
LABEL = b"studio: join token\0"


@dataclass(frozen=True)
class Validity:
    """How long certificates count, and how long after that they may still be renewed."""

    lifetime: timedelta = timedelta(hours=24)
    renew_grace: timedelta = timedelta(days=30)


@dataclass
class Enrolment:
    """Gives certificates to those who may have them."""

    database: Database
    office: AuthorityOffice
    pepper: bytes
    validity: Validity

    async def make_token(
        self, kind: Identity.Kind.ValueType, name: str, lifetime: timedelta, actor: str
    ) -> tuple[JoinToken, JoinTokenText]:
        """A new join token, and its text, which is kept nowhere. Raises InvalidError."""
        if kind == Identity.KIND_UNSPECIFIED or kind not in Identity.Kind.values():
            raise InvalidError("a join token is for a node of one kind", "Name it: agent, gateway or console.")
        if name:
            _check_name(name)
        if not timedelta(0) < lifetime <= LONGEST_TOKEN_LIFE:
            raise InvalidError("a join token lives for 15 minutes at most", "Make it when it is needed.")
        now, text = datetime.now(UTC), JoinTokenText.make(kind)
        token = JoinToken(id=text.id, kind=kind, name=name, actor=actor)
        token.created_at.FromDatetime(now)
        token.expires_at.FromDatetime(now + lifetime)
        async with self.database.transaction() as conn:
            await join_tokens.create(conn, token, self._hash(text))
        return token, text

    async def join(self, request: JoinRequest, peer: str = "") -> Certificate:
        """Use a token up and give the certificate that it stands for. Raises StudioError; the token then stays as it was.

        ``peer`` is where the call came from, for the audit log.
        """
        text, public_key = JoinTokenText.parse(request.token), requested_key(request.csr)
        now = datetime.now(UTC)
        async with self.database.transaction() as conn:
            token = await join_tokens.use(conn, text.id, self._hash(text), now)
            if token is None:
                raise UnauthenticatedError(
                    "this join token is not good: unknown, used before, taken back, or older than its time",
                    "Make a new one: studio hosts token.",
                )
            await identities.begin_joining(conn)
            name = token.name or request.host_name
            _check_name(name)
            known = await identities.named(conn, token.kind, name)
            node_id = await _id_of(conn, token, known, name)
            # Two further: what an earlier holder has is then older than any that may still be on its way.
            generation = known.identity.generation + 2 if known is not None else 1
            made = NodeName(token.kind, node_id, generation)
            identity = Identity(id=node_id, kind=token.kind, name=name, actor=token.actor)
            identity.created_at.FromDatetime(now)
            certificate = await self._issue(conn, identity, made, public_key, generation, now)
            await join_tokens.used_by(conn, token.id, node_id)
            what = "joined again" if known is not None else "joined"
            await events.append(conn, [_event(identity, "identity.joined", f"{_called(identity)} {what}", now)])
            # Last, as every entry: it holds the head of the chain until the transaction ends.
            await audit.append(conn, _joined(identity, token, peer, now))
        log.info("identity_joined", kind=kind_word(token.kind), name=name, id=node_id, generation=generation)
        return certificate

    async def renew(self, request: RenewRequest, peer: str = "") -> Certificate:
        """Give the next certificate to who has the key of the one before. Raises StudioError. ``peer``: as in join."""
        public_key, now = requested_key(request.csr), datetime.now(UTC)
        presented = _read_certificate(request.certificate)
        if not proves(presented.public_key(), request.csr, request.proof):
            raise UnauthenticatedError("the caller does not have the key of the certificate that it shows")
        refusal: DeniedError
        async with self.database.transaction() as conn:
            name = _genuine(await self.office.current(conn), presented, now, self.validity.renew_grace)
            stored = _in_force(await identities.lock(conn, name.id), name)
            if request.generation != name.generation:
                raise _unknown()
            verdict = judge(stored, name.generation, key_fingerprint(public_key))
            if verdict in (Verdict.NEXT, Verdict.AGAIN):
                newest = max(stored.identity.generation, name.generation)
                generation = newest + (verdict is Verdict.NEXT)
                renewed = NodeName(name.kind, name.id, generation)
                return await self._issue(conn, stored.identity, renewed, public_key, stored.joined_generation, now)
            refusal = await _settle(conn, stored, verdict, name, now, peer)
        raise refusal

    async def admit(self, name: NodeName, peer: str = "") -> Identity:
        """Check a node that calls, by the name in the certificate that TLS has verified. Raises DeniedError."""
        refusal: DeniedError
        async with self.database.transaction() as conn:
            stored = _in_force(await identities.get(conn, name.id), name)
            if judge_call(stored, name.generation) is Verdict.NEXT:
                return stored.identity
            # A join may have come in between: what leads to a lock is judged by the row as nobody else can change it.
            stored = _in_force(await identities.lock(conn, name.id), name)
            verdict = judge_call(stored, name.generation)
            if verdict is Verdict.NEXT:
                return stored.identity
            refusal = await _settle(conn, stored, verdict, name, datetime.now(UTC), peer)
        raise refusal

    async def lock(self, admitted: Identity, reason: str, peer: str = "") -> DeniedError:
        """Refuse the identity until it joins again, unless it has since it was ``admitted``; the refusal to answer with."""
        async with self.database.transaction() as conn:
            stored = await identities.lock(conn, admitted.id)
            if stored is None:
                return _unknown()
            if admitted.generation < stored.joined_generation:
                return _of_earlier_life(stored.identity)
            return await _lock(conn, stored, reason, datetime.now(UTC), peer)

    async def revoke(self, name_or_id: str, reason: str, actor: str) -> Identity:
        """Refuse the identity from now on. Raises NotFoundError."""
        now = datetime.now(UTC)
        reason = reason or "revoked by an operator"
        async with self.database.transaction() as conn:
            stored = await identities.find(conn, name_or_id)
            await identities.refuse(conn, stored.identity.id, reason, now)
            message = f"{_called(stored.identity)} was revoked: {reason}"
            event = _event(stored.identity, "identity.revoked", message, now, Event.SEVERITY_WARNING)
            event.actor = actor
            await events.append(conn, [event])
            found = await identities.get(conn, stored.identity.id)
        return found.identity if found is not None else stored.identity

    async def _issue(
        self,
        conn: Connection,
        identity: Identity,
        name: NodeName,
        public_key: ec.EllipticCurvePublicKey,
        joined_generation: int,
        now: datetime,
    ) -> Certificate:
        """Sign a certificate and remember it; ``identity`` is brought up to date."""
        keyring = await self.office.current(conn)
        issued = node_certificate(keyring.signing, name, public_key, now, self.validity.lifetime)
        identity.generation = name.generation
        identity.expires_at.FromDatetime(issued.not_after)
        await identities.put(
            conn,
            IdentityRow(
                identity, joined_generation, issued.key_fingerprint, keyring.signing.fingerprint, keyring.trusted
            ),
        )
        return Certificate(chain=issued.chain, authorities=keyring.bundle, identity=identity)

    def _hash(self, text: JoinTokenText) -> bytes:
        return hmac.digest(self.pepper, LABEL + text.id.encode() + b"\0" + text.secret.encode(), hashlib.sha256)


async def _id_of(conn: Connection, token: JoinToken, known: IdentityRow | None, name: str) -> str:
    """Which id the joining node gets: that of its name where the token is for this name, a new one for a new name."""
    host_id = await identities.host_id_of(conn, name) if token.kind == Identity.KIND_AGENT else None
    taken = known.identity.id if known is not None else host_id
    if taken is not None and not token.name:
        raise ConflictError(
            f"{kind_word(token.kind)} {name} is known already, and this token is for a new one",
            f"If it is this machine: studio hosts token --name {name}. The token was not used.",
        )
    return taken if taken is not None else secrets.token_hex(8)


def _read_certificate(der: bytes) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError:
        raise InvalidError("the certificate to be renewed is none: X.509 in DER") from None


def _genuine(keyring: Keyring, certificate: x509.Certificate, now: datetime, grace: timedelta) -> NodeName:
    """Whose certificate it is; it may have run out, but not longer ago than ``grace``."""
    name = node_name(certificate)
    if name is None or keyring.signer_of(certificate) is None:
        raise UnauthenticatedError(
            "the certificate to be renewed was signed by no authority that counts here", "Join again with a new token."
        )
    if certificate.not_valid_before_utc > now + CLOCK_SKEW:
        raise UnauthenticatedError("the certificate to be renewed is not valid yet", "Look at the clocks.")
    if now > certificate.not_valid_after_utc + grace:
        raise UnauthenticatedError(
            f"the certificate ran out on {certificate.not_valid_after_utc:%Y-%m-%d}, too long ago to be renewed",
            "Join again with a new token; engines are not touched.",
        )
    return name


def _in_force(stored: IdentityRow | None, name: NodeName) -> IdentityRow:
    """The same, where there is one and it is not refused. Raises DeniedError."""
    if stored is None or stored.identity.kind != name.kind:
        raise _unknown()
    identity = stored.identity
    if identity.locked_reason or identity.HasField("revoked_at"):
        raise _denied(identity, identity.locked_reason)
    return stored


async def _settle(
    conn: Connection, stored: IdentityRow, verdict: Verdict, presented: NodeName, now: datetime, peer: str
) -> DeniedError:
    """What a certificate of another generation leads to; ``stored`` is locked in this transaction."""
    if verdict is Verdict.REFUSE:
        return _of_earlier_life(stored.identity)
    newest = stored.identity.generation
    reason = f"{TWO_MACHINES}: one showed a certificate of generation {presented.generation}, another has generation {newest}"
    return await _lock(conn, stored, reason, now, peer)


async def _lock(conn: Connection, stored: IdentityRow, reason: str, now: datetime, peer: str) -> DeniedError:
    if not stored.identity.locked_reason:
        await identities.refuse(conn, stored.identity.id, reason)
        message = f"{_called(stored.identity)} is locked: {reason}"
        await events.append(conn, [_event(stored.identity, "identity.locked", message, now, Event.SEVERITY_ERROR)])
        log.error("identity_locked", id=stored.identity.id, name=stored.identity.name, reason=reason, peer=peer)
        # The one that called was the occasion; which of them is the copy, nobody can tell.
        await audit.append(conn, _entry(stored.identity, "identity-lock", {"locked_reason": reason}, peer, now))
    return _denied(stored.identity, reason)


def _unknown() -> DeniedError:
    return DeniedError("this identity is not known", "Join again with a new token.")


def _of_earlier_life(identity: Identity) -> DeniedError:
    return DeniedError(
        f"{_called(identity)} joined again since: this certificate is of its earlier life",
        "If this is the right machine, let it join again with a new token.",
    )


def _denied(identity: Identity, reason: str) -> DeniedError:
    noun = "gateways" if identity.kind == Identity.KIND_GATEWAY else "hosts"
    kind = " --kind console" if identity.kind == Identity.KIND_CONSOLE else ""
    return DeniedError(
        f"{_called(identity)} is refused: {reason or 'revoked'}",
        f"An operator lets it join again with: studio {noun} token{kind} --name {identity.name}. Engines go on as they are.",
    )


def _joined(identity: Identity, token: JoinToken, peer: str, now: datetime) -> AuditEntry:
    """Who let the node in is told by its token, which has an entry of its own."""
    after: dict[str, str | int] = {
        "generation": identity.generation,
        "id": identity.id,
        "join_token": token.id,
        "token_of": token.actor,
    }
    return _entry(identity, "IdentityService/Join", after, peer, now)


def _entry(identity: Identity, action: str, after: dict[str, str | int], peer: str, now: datetime) -> AuditEntry:
    """What a node brought about by calling: it is the actor, and what it is about."""
    entry = AuditEntry(
        actor=identity.name,
        role=kind_word(identity.kind),
        action=action,
        object=f"Identity/{identity.name}",
        after=json.dumps(after, sort_keys=True),
        outcome="OK",
        peer=peer,
    )
    entry.at.FromDatetime(now)
    return entry


def _called(identity: Identity) -> str:
    return f"{kind_word(identity.kind)} {identity.name}"


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise InvalidError(
            f"{name[:80]!r} is no name of a node", "Letters, digits, dots, dashes, underscores; at most 253."
        )


def _event(
    identity: Identity,
    kind: str,
    message: str,
    now: datetime,
    severity: Event.Severity.ValueType = Event.SEVERITY_INFO,
) -> Event:
    host = identity.name if identity.kind == Identity.KIND_AGENT else ""
    event = Event(kind=kind, severity=severity, host=host, message=message, actor="coordinator")
    event.at.FromDatetime(now)
    return event
