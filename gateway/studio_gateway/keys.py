"""API keys: ``sk-<id>-<secret>``, verified without ever being stored ★.

The id is visible and finds the row; the coordinator keeps HMAC-SHA-256(pepper, whole key) and sends it here. Comparing takes the
same time for a wrong secret and for an id that nobody has.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from studio.v1.route_pb2 import AccessTable, ApiKey, Limits, Price

PREFIX = "sk-"
# Longer texts are not keys; nothing is computed over them.
MAX_KEY_LENGTH = 256


@dataclass(frozen=True, slots=True)
class Key:
    """Who asks, and for which models. Times are seconds since the epoch; None: never."""

    id: str
    tenant: str
    models: frozenset[str]
    hash: bytes = field(repr=False)
    expires_at: float | None
    revoked_at: float | None
    limits: Limits | None = None
    # Whose it is within the tenant; empty: nobody's in particular.
    user: str = ""

    def may_use(self, *names: str) -> bool:
        """Whether one of the ``names`` of a model is in this key's scope; an empty scope is all models."""
        return not self.models or not self.models.isdisjoint(names)

    def refusal(self, now: float) -> str:
        """Why a key that is right is not accepted at ``now``; empty where it is."""
        if self.revoked_at is not None and now >= self.revoked_at:
            return f"The API key {PREFIX}{self.id}-… has been revoked."
        if self.expires_at is not None and now >= self.expires_at:
            return f"The API key {PREFIX}{self.id}-… has expired."
        return ""


NOBODY = Key(id="", tenant="", models=frozenset(), hash=bytes(32), expires_at=None, revoked_at=None)


@dataclass(frozen=True)
class KeyRing:
    """All keys of one access table."""

    version: int
    pepper: bytes = field(repr=False)
    keys: Mapping[str, Key] = field(repr=False)
    # Of tenants that have some, by name.
    tenant_limits: Mapping[str, Limits] = field(default_factory=dict)
    # Of each user of tenants that say some, by the tenant's name.
    user_limits: Mapping[str, Limits] = field(default_factory=dict)
    # How tenants share where they compete, by name; 1 where it is not said.
    weights: Mapping[str, float] = field(default_factory=dict)
    # By public model name.
    prices: Mapping[str, Price] = field(default_factory=dict)
    # What was presented and found to be right: the digest of it is made once for as long as this table is in force.
    _verified: dict[str, Key] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, table: AccessTable) -> "KeyRing":
        """The ring that ``table`` describes."""
        return cls(
            table.version,
            table.pepper,
            MappingProxyType({key.id: _key(key) for key in table.keys}),
            {tenant.name: tenant.limits for tenant in table.tenants if tenant.limits.ListFields()},
            {tenant.name: tenant.user_limits for tenant in table.tenants if tenant.user_limits.ListFields()},
            {tenant.name: tenant.weight for tenant in table.tenants if tenant.weight > 0},
            {price.model: price for price in table.prices},
        )

    def find(self, presented: str) -> Key | None:
        """The key that ``presented`` is; None for every text that is no key of ours. It may have ended: see ``refusal``."""
        if known := self._verified.get(presented):
            return known
        if len(presented) > MAX_KEY_LENGTH or not presented.startswith(PREFIX):
            return None
        key_id = presented[len(PREFIX) :].partition("-")[0]
        key = self.keys.get(key_id, NOBODY)
        computed = hmac.digest(self.pepper, presented.encode("utf-8", "surrogateescape"), "sha256")
        matches = hmac.compare_digest(computed, key.hash)
        if not matches or key is NOBODY:
            return None
        self._verified[presented] = key
        return key


def presented_key(by_name: Mapping[bytes, bytes]) -> str:
    """The key among a request's fields by lower-case name: a bearer token, or ``x-api-key``; empty where there is none."""
    value = by_name.get(b"authorization")
    if value is not None:
        scheme, _, token = value.decode("latin-1").partition(" ")
        if scheme.lower() == "bearer" and (token := token.strip()):
            return token
    return by_name.get(b"x-api-key", b"").decode("latin-1").strip()


def _key(row: ApiKey) -> Key:
    return Key(
        id=row.id,
        tenant=row.tenant,
        models=frozenset(row.models),
        hash=row.hash,
        expires_at=row.expires_at.ToNanoseconds() / 1e9 if row.HasField("expires_at") else None,
        revoked_at=row.revoked_at.ToNanoseconds() / 1e9 if row.HasField("revoked_at") else None,
        limits=row.limits if row.limits.ListFields() else None,
        user=row.user,
    )
