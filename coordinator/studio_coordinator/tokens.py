"""Bearer tokens: ``vso_`` of operators, ``vsj_`` to join with.

    vso_ID_SECRETCHECKSUM

ID (12 letters and digits) finds the row, SECRET is 256 bits in URL-safe base 64, CHECKSUM the CRC-32 of what comes before: a
scanner knows one without asking, and one that was copied wrong is told from one that is wrong. The database has only a keyed
hash of the whole text.
"""

import base64
import hmac
import re
import secrets
import string
import zlib
from dataclasses import dataclass, field

OPERATOR = "vso"

ID_ALPHABET = string.ascii_lowercase + string.digits
ID_LENGTH = 12
SECRET_BYTES = 32
FORM = re.compile(r"(?P<body>(?P<prefix>vs[a-z])_(?P<id>[a-z0-9]{12})_[A-Za-z0-9_-]{43})(?P<checksum>[0-9a-f]{8})")


@dataclass(frozen=True)
class Token:
    """A token as its owner has it."""

    prefix: str
    id: str
    text: str = field(repr=False)

    @classmethod
    def new(cls, prefix: str) -> "Token":
        """A random one."""
        token_id = "".join(secrets.choice(ID_ALPHABET) for _ in range(ID_LENGTH))
        return cls.made_of(prefix, token_id, secrets.token_bytes(SECRET_BYTES))

    @classmethod
    def made_of(cls, prefix: str, token_id: str, secret: bytes) -> "Token":
        """The one with this id and secret (32 bytes)."""
        body = f"{prefix}_{token_id}_{base64.urlsafe_b64encode(secret).rstrip(b'=').decode()}"
        return cls(prefix, token_id, f"{body}{_checksum(body)}")

    @classmethod
    def read(cls, text: str, prefix: str) -> "Token | None":
        """The token that ``text`` is; None where it is none with ``prefix``, or was copied wrong."""
        found = FORM.fullmatch(text)
        if found is None or found["prefix"] != prefix or found["checksum"] != _checksum(found["body"]):
            return None
        return cls(prefix, found["id"], text)

    def hash(self, pepper: bytes) -> bytes:
        """What the database keeps. A fast hash is right: there is nothing to guess in 256 random bits."""
        return hmac.digest(pepper, self.text.encode(), "sha256")

    def is_hashed_as(self, digest: bytes, pepper: bytes) -> bool:
        """Whether ``digest`` is its hash, in constant time."""
        return hmac.compare_digest(self.hash(pepper), digest)


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"
