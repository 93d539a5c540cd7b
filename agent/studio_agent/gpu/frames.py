"""The framing between the sampler's child and the agent.

One frame is one whole sample, so a lost one costs nothing but its age.

    4 bytes: length of HOST │ 4 bytes: length of REPORT │ HOST: a `Host` message │ REPORT: JSON

Lengths are big-endian. The host carries driver, GPUs and figures; the report what the contract has no place for.
"""

import json
import struct
from dataclasses import asdict, dataclass, field

from google.protobuf.message import DecodeError
from studio.v1.host_pb2 import Host

from studio_agent.gpu.reading import Condition, LinkCounters, Vendor, Xid

HEADER = struct.Struct(">II")
# 16 GPUs with some hundreds of processes stay far below it.
MAX_PART_BYTES = 4 << 20


class FrameError(ValueError):
    """The child sent something that is no frame."""


@dataclass(frozen=True)
class Refusal:
    """Why no vendor's library can be used at all."""

    reason: str
    # This host has no GPU driver: normal, not an error.
    absent: bool
    # Trying again without a change to the host cannot help.
    final: bool


@dataclass(frozen=True)
class Frame:
    """One sample of all GPUs, or a refusal."""

    host: Host = field(default_factory=Host)
    conditions: tuple[Condition, ...] = ()
    links: tuple[LinkCounters, ...] = ()
    # Those since the frame before; the only part that is not the latest value but history.
    xids: tuple[Xid, ...] = ()
    # Of all its GPUs.
    vendor: Vendor = "nvidia"
    refusal: Refusal | None = None


def encode(frame: Frame) -> bytes:
    """The bytes of ``frame``."""
    host = frame.host.SerializeToString()
    report = json.dumps(
        {
            "vendor": frame.vendor,
            "conditions": [asdict(each) for each in frame.conditions],
            "links": [asdict(each) for each in frame.links],
            "xids": [asdict(each) for each in frame.xids],
            "refusal": asdict(frame.refusal) if frame.refusal else None,
        },
        separators=(",", ":"),
    ).encode()
    return HEADER.pack(len(host), len(report)) + host + report


def part_lengths(header: bytes) -> tuple[int, int]:
    """Lengths of HOST and REPORT in bytes; raises FrameError when one is out of bounds."""
    host_length, report_length = HEADER.unpack(header)
    if max(host_length, report_length) > MAX_PART_BYTES:
        raise FrameError(f"a frame of {host_length} + {report_length} bytes is larger than any frame can be")
    return host_length, report_length


def decode(host: bytes, report: bytes) -> Frame:
    """The frame with these two parts; raises FrameError when they are not what `encode` makes."""
    try:
        parsed = json.loads(report)
        return Frame(
            host=Host.FromString(host),
            vendor=parsed["vendor"],
            conditions=tuple(Condition(**each) for each in parsed["conditions"]),
            links=tuple(LinkCounters(**each) for each in parsed["links"]),
            xids=tuple(Xid(**each) for each in parsed["xids"]),
            refusal=Refusal(**parsed["refusal"]) if parsed["refusal"] else None,
        )
    except (DecodeError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise FrameError(f"the sampler's child sent no frame: {error}") from error
