"""A host's GPUs as placement sees them, and on which of them a need has room.

What stays the same through a pass (`Device`) is apart from what placing changes (how much of each is taken, a list of shares
beside it), so that alike hosts are recognised as alike and asked once.

Room on a GPU is what neither our replicas nor strangers hold. A replica of ours counts with its reservation or with what it was
measured to hold, whichever is more. Strangers' memory is what the driver reports of processes that are not ours. Below
`TOLERATED_SHARE` it is ignored for a need that names no bytes: a desktop's display server should not cost the whole GPU.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from studio.v1.host_pb2 import Gpu, GpuProcess, Host

from studio_coordinator.plan.engine_minimums import Version, numbers
from studio_coordinator.plan.topology import domains
from studio_coordinator.plan.wish import GpuNeed

GIB = 2**30
TOLERATED_SHARE = 0.05
# Measured bytes move a little all the time: they are counted in steps, rounded up, so that a plan does not move with them.
STEP_BYTES = 256 * 2**20
# Shares such as 0.1 do not add up exactly.
SLACK = 1e-6
WAY_BACK = "once mended: studio hosts gpus check"


class Device(NamedTuple):
    """A GPU or MIG instance, without its identity: equal ones are interchangeable."""

    model: str
    memory_bytes: int
    capability: Version
    # A MIG instance.
    instance: bool
    # In MIG mode: work goes to its instances.
    divided: bool
    quarantine: str
    # Bytes that strangers hold, and who.
    foreign_bytes: int
    strangers: str
    # GPUs of one NVLink domain have the same number.
    nvlink: int
    numa: int


def devices_of(host: Host, asleep: Collection[str] = frozenset()) -> tuple[tuple[Device, ...], tuple[Gpu, ...]]:
    """The host's GPUs in index order, as devices and as they are in the contract.

    ``asleep``: ids of replicas that sleep. What they keep of a GPU counts as a stranger's would: as measured.
    """
    gpus = tuple(sorted(host.gpus, key=lambda gpu: (gpu.index, gpu.uuid)))
    parents = {gpu.parent_uuid for gpu in gpus if gpu.parent_uuid}
    links = domains([(gpu.uuid, gpu.nvlink_peers) for gpu in gpus])
    return tuple(_device(gpu, asleep, divided=gpu.uuid in parents, nvlink=links[gpu.uuid]) for gpu in gpus), gpus


def _device(gpu: Gpu, asleep: Collection[str], *, divided: bool, nvlink: int) -> Device:
    awake = [process for process in gpu.figures.processes if process.replica_id and process.replica_id not in asleep]
    strangers = [process for process in gpu.figures.processes if process not in awake]
    held = sum(process.memory_used_bytes for process in strangers)
    if any(not process.HasField("memory_used_bytes") for process in strangers):
        # The driver hides what some of them hold: whatever is used and not known to be ours is theirs.
        ours = sum(process.memory_used_bytes for process in awake)
        held = max(held, gpu.figures.memory_used_bytes - ours)
    foreign = -(-held // STEP_BYTES) * STEP_BYTES
    told = sorted(strangers, key=lambda process: (-process.memory_used_bytes, process.pid))
    return Device(
        model=gpu.model,
        memory_bytes=gpu.memory_bytes,
        capability=numbers(gpu.compute_capability),
        instance=bool(gpu.parent_uuid),
        divided=divided,
        quarantine=f"is quarantined: {gpu.health_reason} ({WAY_BACK})" if gpu.health == Gpu.HEALTH_QUARANTINED else "",
        foreign_bytes=foreign,
        strangers=", ".join(map(_stranger, told[:2])) if foreign else "",
        nvlink=nvlink,
        numa=gpu.numa_node,
    )


def _stranger(process: GpuProcess) -> str:
    if process.replica_id:
        return f"{process.replica_id} (asleep)"
    return f"pid {process.pid} ({', '.join(filter(None, (process.command, process.user and f'user {process.user}')))})"


def measured_shares(gpu: Gpu) -> dict[str, float]:
    """Part of the GPU's memory that each replica of ours was measured to hold, by replica id."""
    shares: dict[str, float] = {}
    if gpu.memory_bytes:
        for process in gpu.figures.processes:
            if process.replica_id:
                held = process.memory_used_bytes / gpu.memory_bytes
                shares[process.replica_id] = shares.get(process.replica_id, 0.0) + held
    return shares


def unfit(device: Device, need: GpuNeed) -> str:
    """Why the device could never serve the need, whoever is on it; empty when it could."""
    if device.divided:
        return "is divided into MIG instances"
    if device.instance and need.count > 1:
        return "is a MIG instance: no replica spans several"
    if device.instance and need.across:
        return "is a MIG instance: it has no way to other hosts"
    return device.quarantine or _wrong_model(device, need) or _too_small(device, need)


def _wrong_model(device: Device, need: GpuNeed) -> str:
    if not need.models:
        return ""
    words = device.model.upper().replace("-", " ").split()
    if any(model.upper() in words for model in need.models):
        return ""
    return f"is a {device.model or 'GPU of unknown model'}, not {' or '.join(need.models)}"


def _too_small(device: Device, need: GpuNeed) -> str:
    if device.capability and device.capability < need.minimum.capability:
        has, wants = (".".join(map(str, version)) for version in (device.capability, need.minimum.capability))
        return f"has compute capability {has}, the engine needs {wants}"
    if need.memory_bytes and device.memory_bytes < need.memory_bytes:
        return f"has {gib(device.memory_bytes)}, {gib(need.memory_bytes)} wanted"
    return ""


def occupied(device: Device, taken: float, need: GpuNeed) -> str:
    """Why the device has no room now: ``held`` by replicas of ours, or by whom else; empty when it has room."""
    if taken > SLACK if need.exclusive else taken + need.share_of(device.memory_bytes) > 1 + SLACK:
        return HELD
    total = device.memory_bytes
    foreign = device.foreign_bytes
    if not foreign or not (need.memory_bytes or foreign > TOLERATED_SHARE * total):
        return ""
    wanted = need.memory_bytes if need.exclusive else need.share_of(total) * total
    free = total * (1 - taken) - foreign
    if need.exclusive and not need.memory_bytes:
        return f"has {gib(free)} free: {device.strangers} holds {gib(foreign)}, and the recipe names no memory"
    if free < wanted * (1 - SLACK):
        return f"has {gib(free)} free, {gib(wanted)} wanted: {device.strangers} holds {gib(foreign)}"
    return ""


HELD = "held"


def fitting(devices: Sequence[Device], taken: Sequence[float], need: GpuNeed) -> list[int]:
    """Positions of the devices that have room; pins are the caller's."""
    return [
        position
        for position, (device, share) in enumerate(zip(devices, taken, strict=True))
        if not unfit(device, need) and not occupied(device, share, need)
    ]


def gib(size: float) -> str:
    """Bytes for people."""
    return f"{size / GIB:.1f} GiB"
