"""How many bytes of each GPU an engine is told it may use. 0 leaves it to the engine's own default.

A whole GPU needs no word: the engine's default takes most of it, and that becomes KV cache. It is told where it would not
start by its default (strangers hold a part, or the default leaves too little), and where it shares the GPU with others: there
it gets what is reserved for it, less what it does not count itself.
"""

from collections.abc import Iterable, Sequence

from studio.v1.recipe_pb2 import Recipe
from studio.v1.replica_pb2 import Replica

from studio_coordinator.plan.fleet import Fleet
from studio_coordinator.plan.gpus import GIB, STEP_BYTES, Device
from studio_coordinator.plan.members import parts
from studio_coordinator.plan.memory.engine_rules import TESTED_VERSION
from studio_coordinator.plan.sizing import UNKNOWN, GpuKind, OnKind, Sizing, own_fraction
from studio_coordinator.plan.snapshot import Snapshot
from studio_coordinator.plan.wish import ENGINES_WITHOUT_GPU, GpuNeed, gpu_need

# Where there is no estimate: the process context of a single GPU, rounded up.
USUAL_OUTSIDE_BYTES = GIB
# The largest part of a GPU that engines take by default.
USUAL_FRACTION = 0.92


def allowances(snapshot: Snapshot, rows: Iterable[Replica], fleet: Fleet) -> dict[str, int]:
    """Of the replicas that no document knows yet, by id. What a running engine was told stays."""
    known = {item.replica_id for document in snapshot.assignments.values() for item in document.replicas}
    found = {}
    for row in rows:
        revision = row.recipe_name, row.recipe_revision
        recipe = snapshot.recipes.get(revision)
        if row.host_id and row.id not in known and recipe is not None:
            sizing = snapshot.sizes.get(revision, UNKNOWN)
            uuids = [uuid for part in parts(row) for uuid in part.gpu_uuids]
            devices = [view.devices[at] for view in fleet.hosts_of(row.id) for at in view.positions(uuids)]
            found[row.id] = allowance(recipe, gpu_need(recipe, sizing), devices, sizing)
    return found


def allowance(recipe: Recipe, need: GpuNeed, devices: Sequence[Device], sizing: Sizing) -> int:
    """Bytes of each GPU for the engine of ``recipe`` on ``devices``: the same on all, so the tightest decides."""
    if not devices or recipe.engine.name in ENGINES_WITHOUT_GPU or own_fraction(recipe) is not None:
        return 0
    told = [
        _on_device(recipe, need, device, sizing.at(GpuKind(device.model, device.memory_bytes), len(devices)))
        for device in devices
    ]
    return min((size for size in told if size), default=0)


def _on_device(recipe: Recipe, need: GpuNeed, device: Device, on: OnKind | None) -> int:
    outside = on.outside_bytes if on is not None else USUAL_OUTSIDE_BYTES
    if not need.exclusive:
        return max(0, int(need.share_of(device.memory_bytes) * device.memory_bytes) - outside)
    free = device.memory_bytes - device.foreign_bytes - outside
    if recipe.engine.name not in TESTED_VERSION:
        # What the default of this engine would be is not known; it matters only where somebody else is there.
        return _stepped(free) if device.foreign_bytes else 0
    fits_by_default = on is None or on.estimate.fits
    if fits_by_default and free >= USUAL_FRACTION * device.memory_bytes:
        return 0
    return _stepped(free)


def _stepped(size: int) -> int:
    return max(0, size // STEP_BYTES * STEP_BYTES)
