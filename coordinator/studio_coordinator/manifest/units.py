"""Bytes, durations and shares as people write them; the readers raise ValueError with what they expect."""

import re
from decimal import Decimal

from google.protobuf.duration_pb2 import Duration

NUMBER = re.compile(r"[+-]?(\d[\d_]*)(\.\d*)?([eE][+-]?\d+)?|[+-]?\.\d+([eE][+-]?\d+)?")
WHOLE = re.compile(r"[+-]?\d[\d_]*")
INT64_MAX = 2**63 - 1

BINARY = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
DECIMAL = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
BYTES = re.compile(rf"(\d+(?:\.\d+)?)\s*({'|'.join([*BINARY, *DECIMAL])})?")
BYTES_RULE = "a size such as 24GiB, 512MiB, 80GB, or a number of bytes"

NANOSECONDS = {"d": 86_400 * 10**9, "h": 3_600 * 10**9, "m": 60 * 10**9, "s": 10**9, "ms": 10**6}
DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|d|h|m|s)")
DURATION_RULE = "a duration such as 45s, 10m, 1h30m, or a number of seconds"
LONGEST_SECONDS = 10 * 366 * 86_400

SHARE_RULE = "a share such as 20% or 0.2"


def read_bytes(text: str) -> int:
    """Bytes of ``24GiB``, ``80GB`` or ``1024``."""
    found = BYTES.fullmatch(text.strip())
    if found is None:
        raise ValueError(BYTES_RULE)
    size = Decimal(found[1]) * (BINARY | DECIMAL)[found[2] or "B"]
    if size != size.to_integral_value() or size > INT64_MAX:
        raise ValueError(f"{BYTES_RULE}, whole and less than 8 EiB")
    return int(size)


def write_bytes(size: int) -> str | int:
    """``size`` in the largest binary unit that it is a whole number of; the number itself where there is none."""
    for unit, factor in reversed(BINARY.items()):
        if size >= factor and size % factor == 0:
            return f"{size // factor}{unit}"
    return size


def read_duration(text: str) -> Duration:
    """The duration of ``1h30m``, ``45s``, ``250ms`` or a number of seconds, at most ten years."""
    stripped = text.strip()
    if NUMBER.fullmatch(stripped):
        stripped += "s"
    parts = DURATION_PART.findall(stripped)
    if not parts or DURATION_PART.sub("", stripped).strip():
        raise ValueError(DURATION_RULE)
    nanoseconds = sum((Decimal(number) * NANOSECONDS[unit] for number, unit in parts), Decimal(0))
    if nanoseconds > LONGEST_SECONDS * 10**9:
        raise ValueError(f"{DURATION_RULE}, at most ten years")
    seconds, nanos = divmod(int(nanoseconds), 10**9)
    return Duration(seconds=seconds, nanos=nanos)


def write_duration(duration: Duration) -> str:
    """``1h30m``; fractions of a second as ``1.5s``."""
    minutes, seconds = divmod(duration.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f"{duration.nanos / 10**9:.9f}".rstrip("0")[1:] if duration.nanos else ""
    parts = [(hours, "h"), (minutes, "m")]
    written = "".join(f"{number}{unit}" for number, unit in parts if number)
    return written + (f"{seconds}{fraction}s" if seconds or fraction or not written else "")


def read_share(text: str) -> float:
    """0.2 of ``20%`` or ``0.2``; whether it is in range is not looked at."""
    stripped = text.strip()
    number = stripped.removesuffix("%").rstrip()
    if not NUMBER.fullmatch(number):
        raise ValueError(SHARE_RULE)
    return float(Decimal(number) / 100) if stripped.endswith("%") else float(number)
