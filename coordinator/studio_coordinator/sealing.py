"""Envelope encryption of what the database holds and must not give away: secrets of users, private keys of authorities.

Each value is encrypted (AES-256-GCM) under a data key of its own; the data key is wrapped by the master key, which lies in a
file beside the database and never in it. What the value is for (``secret/hub``, ``authority/ab12…``) is authenticated with it: a
row that is copied to another place does not open there.

    sealed value = version (1) | id of the master key (8) | nonce (12) | wrapped data key (48) | nonce (12) | ciphertext and tag

The file holds one key a line (64 hexadecimal digits). The first seals, every one opens. To change it: add the new key as
the second line on all coordinators and restart them; then make it the first, restart, and drop the old one when
nothing is sealed with it any more.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from studio_runtime.errors import StudioError
from studio_runtime.process import write_atomically

VERSION = b"\x01"
KEY_BYTES = 32
KEY_ID_BYTES = 8
NONCE_BYTES = 12
TAG_BYTES = 16
WRAPPED_BYTES = KEY_BYTES + TAG_BYTES
HEADER_BYTES = len(VERSION) + KEY_ID_BYTES
SHORTEST_SEALED = HEADER_BYTES + NONCE_BYTES + WRAPPED_BYTES + NONCE_BYTES + TAG_BYTES

ID_LABEL = b"studio: id of the master key"
CHECK_LABEL = b"studio: check of the master key"


class SealingError(StudioError):
    """A sealed value does not open: another master key, another place, or a changed row."""

    reason = "sealing"


@dataclass(frozen=True)
class MasterKey:
    """One line of the master key file."""

    value: bytes = field(repr=False)

    @property
    def id(self) -> bytes:
        """Names the key in the header of what it sealed, and says nothing about it."""
        return hmac.digest(self.value, ID_LABEL, hashlib.sha256)[:KEY_ID_BYTES]

    @property
    def check_value(self) -> bytes:
        """Tells master keys apart; it may be stored beside what they sealed."""
        return hmac.digest(self.value, CHECK_LABEL, hashlib.sha256)


@dataclass(frozen=True)
class Sealer:
    """Seals with the first of its keys, opens with the one that the value names."""

    keys: tuple[MasterKey, ...]

    @classmethod
    def load(cls, state_dir: Path, master_key_file: Path | None = None) -> "Sealer":
        """Read ``master-key`` in ``state_dir``; make it (mode 0600) at the first start.

        ``master_key_file`` holds the keys instead, and must be there: coordinators on one database share its bytes.
        Raises SealingError where it cannot be read or holds anything but keys.
        """
        file = master_key_file or state_dir / "master-key"
        if master_key_file is None and not file.exists():
            write_atomically(file, secrets.token_hex(KEY_BYTES).encode() + b"\n")
        return cls(_read_keys(file))

    def seal(self, value: bytes, context: str) -> bytes:
        """Encrypt ``value`` for the place that ``context`` names."""
        key = self.keys[0]
        header = VERSION + key.id
        bound = header + context.encode()
        data_key = secrets.token_bytes(KEY_BYTES)
        wrap_nonce, nonce = secrets.token_bytes(NONCE_BYTES), secrets.token_bytes(NONCE_BYTES)
        wrapped = AESGCM(key.value).encrypt(wrap_nonce, data_key, bound)
        return header + wrap_nonce + wrapped + nonce + AESGCM(data_key).encrypt(nonce, value, bound)

    def open(self, sealed: bytes, context: str) -> bytes:
        """Decrypt what was sealed for ``context``; SealingError where it does not open."""
        if len(sealed) < SHORTEST_SEALED or not sealed.startswith(VERSION):
            raise SealingError(f"{context} is not a sealed value", "Was the database written by a newer release?")
        header, rest = sealed[:HEADER_BYTES], sealed[HEADER_BYTES:]
        wrap_nonce, rest = rest[:NONCE_BYTES], rest[NONCE_BYTES:]
        wrapped, rest = rest[:WRAPPED_BYTES], rest[WRAPPED_BYTES:]
        nonce, ciphertext = rest[:NONCE_BYTES], rest[NONCE_BYTES:]
        key = next((key for key in self.keys if key.id == header[len(VERSION) :]), None)
        if key is None:
            raise SealingError(
                f"{context} is sealed with a master key that this coordinator does not have",
                "Put that key back into the master key file, on a line of its own.",
            )
        bound = header + context.encode()
        try:
            data_key = AESGCM(key.value).decrypt(wrap_nonce, wrapped, bound)
            return AESGCM(data_key).decrypt(nonce, ciphertext, bound)
        except InvalidTag as error:
            raise SealingError(
                f"{context} does not open: the row was changed, or belongs to another place",
                "Store it again, or restore the database.",
            ) from error

    @property
    def check_value(self) -> bytes:
        """Of the key that seals."""
        return self.keys[0].check_value

    @property
    def known_check_values(self) -> frozenset[bytes]:
        """Of every key that opens."""
        return frozenset(key.check_value for key in self.keys)

    def is_current(self, sealed: bytes) -> bool:
        """Whether the first key sealed it; what is not is to be opened and sealed again."""
        return sealed.startswith(VERSION + self.keys[0].id)


def _read_keys(file: Path) -> tuple[MasterKey, ...]:
    try:
        lines = file.read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError) as error:
        raise SealingError(
            f"the master key {file} cannot be read: {error}",
            "Copy the file master-key from the first coordinator's state folder, readable to this user alone.",
        ) from error
    try:
        keys = tuple(MasterKey(bytes.fromhex(line)) for line in lines)
    except ValueError:
        keys = ()
    if not keys or any(len(key.value) != KEY_BYTES for key in keys):
        raise SealingError(
            f"the master key {file} holds something else than {2 * KEY_BYTES} hexadecimal digits a line", "Is it whole?"
        )
    return keys
