"""The text that lets one node join, once: ``vsj_`` ‖ id (12) ‖ secret (52) ‖ checksum (7), all lower-case letters and digits.

The id is visible and begins with the first letter of the kind that it is good for; the secret has 256 bits; the checksum
(CRC-32) tells a text that was cut or mistyped from one that is refused, and lets a scanner know a token when it sees one.
"""

import base64
import re
import secrets
import zlib
from dataclasses import dataclass, field

from studio.v1.identity_service_pb2 import Identity

from studio_runtime.errors import InvalidError
from studio_runtime.identity.names import KINDS, kind_word

PREFIX = "vsj_"
ID_LENGTH = 12
SECRET_BYTES = 32
SECRET_LENGTH = 52
CHECKSUM_LENGTH = 7
TEXT = re.compile(rf"{PREFIX}([a-z0-9]{{{ID_LENGTH}}})([a-z2-7]{{{SECRET_LENGTH}}})([a-z2-7]{{{CHECKSUM_LENGTH}}})")
ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


class JoinTokenError(InvalidError):
    """A text is no join token."""

    reason = "join_token"


@dataclass(frozen=True)
class JoinTokenText:
    """A join token as its owner has it."""

    id: str
    # 256 bits, base32.
    secret: str = field(repr=False)

    @classmethod
    def make(cls, kind: Identity.Kind.ValueType) -> "JoinTokenText":
        """A new one, good for nodes of ``kind``."""
        rest = "".join(secrets.choice(ALPHABET) for _ in range(ID_LENGTH - 1))
        return cls(kind_word(kind)[0] + rest, _base32(secrets.token_bytes(SECRET_BYTES)))

    @classmethod
    def parse(cls, text: str) -> "JoinTokenText":
        """Read one. Raises JoinTokenError, which does not repeat it."""
        found = TEXT.fullmatch(text.strip())
        if found is None:
            raise JoinTokenError(
                "this is not a join token", f"One begins with {PREFIX}; `studio hosts token` makes one."
            )
        token = cls(found[1], found[2])
        if token.checksum != found[3]:
            raise JoinTokenError("the join token is damaged: its checksum is wrong", "Was it cut, or typed by hand?")
        return token

    @property
    def kind(self) -> Identity.Kind.ValueType:
        """What it is good for, by its own word; what counts is what the coordinator has on record."""
        return next((kind for word, kind in KINDS.items() if word[0] == self.id[0]), Identity.KIND_UNSPECIFIED)

    @property
    def checksum(self) -> str:
        """Over all that goes before it."""
        return _base32(zlib.crc32(f"{PREFIX}{self.id}{self.secret}".encode()).to_bytes(4, "big"))

    def __str__(self) -> str:
        return f"{PREFIX}{self.id}{self.secret}{self.checksum}"


def _base32(value: bytes) -> str:
    return base64.b32encode(value).decode().rstrip("=").lower()
