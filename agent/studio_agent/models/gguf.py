"""The header of a GGUF file, shortened to what says something about memory: it is sent, and vocabularies alone have megabytes.

Layout (GGUF 2 and 3, little endian): magic, version u32, tensor count u64, pair count u64, pairs (string key, u32 type, value),
tensors (string name, u32 dimensions, u64 each, u32 type, u64 offset). What is made of it has the same layout; long arrays and
texts are left out, and the length of the vocabulary is said in their place.
"""

import re
import struct
from pathlib import Path
from typing import BinaryIO

from studio_agent.models.errors import ModelDiskError

MAGIC = b"GGUF"
STRING, ARRAY, UINT32 = 8, 9, 4
SCALAR_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
# One number for each layer is an array that counts.
LONGEST_ARRAY = 4096
LONGEST_TEXT_BYTES = 4096
# What a damaged file may ask for.
MOST_TENSORS = 1_000_000
ARCHITECTURE = b"general.architecture"
VOCABULARY = b"tokenizer.ggml.tokens"
# NAME-00001-of-00003.gguf: one model in several files.
PART = re.compile(r"(.+)-[0-9]{5}-of-([0-9]{5})\.gguf")


def shortened_header(path: Path) -> bytes:
    """The header of the file at ``path``. Raises OSError, and ModelDiskError where it is damaged. Blocks on the disk."""
    with path.open("rb") as file:
        try:
            return _shortened(file)
        except (struct.error, KeyError) as error:
            raise ModelDiskError(f"the GGUF header of {path} is damaged: {error}", "Download it again.") from error


def parts(path: Path) -> list[Path]:
    """The file at ``path``, or all files of a model that is split, of which it is one."""
    found = PART.fullmatch(path.name)
    if found is None:
        return [path]
    return sorted(path.parent.glob(f"{_literal(found[1])}-[0-9][0-9][0-9][0-9][0-9]-of-{found[2]}.gguf"))


def _shortened(file: BinaryIO) -> bytes:
    if file.read(len(MAGIC)) != MAGIC:
        raise struct.error("it does not begin as one")
    version, tensor_count, pair_count = struct.unpack("<IQQ", _exactly(file, 20))
    if tensor_count > MOST_TENSORS:
        raise struct.error(f"it claims {tensor_count} tensors")
    pairs: dict[bytes, bytes] = {}
    architecture, vocabulary = b"", 0
    for _ in range(pair_count):
        key = _string(file)
        (kind,) = struct.unpack("<I", _exactly(file, 4))
        value, length = _value(file, kind)
        if key == ARCHITECTURE:
            architecture = value[8:]
        if key == VOCABULARY:
            vocabulary = length
        elif value:
            pairs[key] = struct.pack("<I", kind) + value
    if vocabulary:
        pairs.setdefault(architecture + b".vocab_size", struct.pack("<II", UINT32, vocabulary))
    tensors = b"".join(_tensor(file) for _ in range(tensor_count))
    head = MAGIC + struct.pack("<IQQ", version, tensor_count, len(pairs))
    return head + b"".join(_packed(key) + value for key, value in pairs.items()) + tensors


def _value(file: BinaryIO, kind: int) -> tuple[bytes, int]:
    """A value as it stands in the file, b"" where it is too long; and of an array how many it has."""
    if kind == STRING:
        text = _string(file)
        return (_packed(text) if len(text) <= LONGEST_TEXT_BYTES else b""), 0
    if kind != ARRAY:
        return _exactly(file, SCALAR_BYTES[kind]), 0
    head = _exactly(file, 12)
    item, count = struct.unpack("<IQ", head)
    if item == STRING:
        for _ in range(count):
            _string(file)
        return b"", count
    size = SCALAR_BYTES[item] * count
    if count > LONGEST_ARRAY:
        file.seek(size, 1)
        return b"", count
    return head + _exactly(file, size), count


def _tensor(file: BinaryIO) -> bytes:
    name = _string(file)
    (dimensions,) = struct.unpack("<I", _exactly(file, 4))
    return _packed(name) + struct.pack("<I", dimensions) + _exactly(file, 8 * dimensions + 12)


def _string(file: BinaryIO) -> bytes:
    (length,) = struct.unpack("<Q", _exactly(file, 8))
    return _exactly(file, length)


def _packed(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def _exactly(file: BinaryIO, size: int) -> bytes:
    """So many bytes. Raises struct.error where there are fewer, also for sizes that only a damaged file names."""
    content = file.read(size) if size < 1 << 28 else b""
    if len(content) < size:
        raise struct.error("it ends before its header does")
    return content


def _literal(name: str) -> str:
    """``name`` for a glob: its brackets, stars and question marks mean themselves."""
    return re.sub(r"([*?\[])", r"[\1]", name)
