"""How figures are written for people, and read from them."""

import math
import re
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from studio_runtime.errors import InvalidError

NOTHING = "\N{EN DASH}"

UNIT_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
BINARY_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def duration(seconds: float) -> str:
    """The two largest units: ``41s``, ``2m14s``, ``2h14m``, ``3d``."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for unit, size in UNIT_SECONDS.items():
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
        elif parts:
            break
    return "".join(parts[:2]) or "0s"


def parse_duration(text: str) -> float:
    """Seconds of ``90s``, ``10m``, ``2h30m``, ``7d``. Raises InvalidError."""
    if not re.fullmatch(r"(\d+[dhms])+", text):
        raise InvalidError(f"{text!r} is not a duration", "Write it as 90s, 10m, 2h30m or 7d.")
    return float(sum(int(count) * UNIT_SECONDS[unit] for count, unit in re.findall(r"(\d+)([dhms])", text)))


def size(count: int) -> str:
    """Bytes in binary units: ``62 GiB``, ``1.5 TiB``."""
    value = float(count)
    unit = BINARY_UNITS[0]
    for unit in BINARY_UNITS:
        if value < 1024 or unit == BINARY_UNITS[-1]:  # noqa: PLR2004 - binary units
            break
        value /= 1024
    return f"{value:.0f} {unit}" if value >= 10 or value == int(value) else f"{value:.1f} {unit}"  # noqa: PLR2004


def number(value: float) -> str:
    """A count with thousands separated: ``1,904``."""
    return f"{value:,.0f}"


def share(value: float) -> str:
    """A share of 1 in per cent: ``38 %``. Cut, not rounded: 100 % means all of it."""
    return f"{math.floor(value * 100 + 1e-9)} %"


def moment(stamp: Timestamp) -> datetime:
    """A proto timestamp as an aware UTC time."""
    return stamp.ToDatetime(tzinfo=UTC)


def age(stamp: Timestamp, now: datetime) -> str:
    """How long ago ``stamp`` was; a dash where it is unset."""
    return duration((now - moment(stamp)).total_seconds()) if stamp.seconds else NOTHING


def count_of(count: int, singular: str) -> str:
    """A count and its noun: ``1 GPU``, ``0 GPUs``."""
    return f"{count} {singular}" if count == 1 else f"{count} {singular}s"


def seconds(value: float) -> str:
    """A time that was measured: ``0.8 s``, ``18 s``, ``2m14s``."""
    if value < 10:  # noqa: PLR2004 - two digits are enough
        return f"{value:.1f} s"
    return f"{value:.0f} s" if value < UNIT_SECONDS["m"] else duration(value)
