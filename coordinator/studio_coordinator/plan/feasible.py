"""Stage 1 of placement: on which hosts a replica could run, and for every other host why not."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from studio.v1.deployment_pb2 import Deployment
from studio.v1.host_pb2 import Gpu, Host
from studio.v1.recipe_pb2 import Recipe
from studio.v1.replica_pb2 import Replica

# Engines that run without a GPU where the recipe does not ask for one.
ENGINES_WITHOUT_GPU = frozenset({"demo"})


@dataclass(frozen=True)
class GpuNeed:
    """GPUs that one replica wants on one host."""

    count: int
    # Part of each GPU, 0 < share <= 1.
    share: float = 1.0
    memory_bytes: int = 0
    models: Sequence[str] = ()


@dataclass
class Books:
    """What is spoken for: updated by the placer as it goes."""

    # Host id to the ids of replicas on it, by deployment.
    replicas: dict[str, dict[str, set[str]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(set)))
    # GPU uuid to the part of it that is taken.
    taken: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, replica: Replica, share: float) -> None:
        """Count ``replica`` in."""
        self.replicas[replica.host_id][replica.deployment].add(replica.id)
        for uuid in replica.gpu_uuids:
            self.taken[uuid] += share

    @classmethod
    def of(cls, replicas: Sequence[Replica], recipes: Mapping[tuple[str, int], Recipe]) -> "Books":
        """Count every replica that has a host: it holds its GPUs until its row is gone."""
        books = cls()
        for replica in replicas:
            if replica.host_id:
                recipe = recipes.get((replica.recipe_name, replica.recipe_revision))
                books.add(replica, gpu_need(recipe).share if recipe is not None else 1.0)
        return books


def gpu_need(recipe: Recipe) -> GpuNeed:
    """What the recipe asks for; ``auto`` is one GPU for each part of tensor and pipeline parallelism."""
    request = recipe.resources.gpu
    args = recipe.args
    parallel = (args.tensor_parallel.value or 1) * (args.pipeline_parallel or 1)
    if request.count.WhichOneof("kind") == "value":
        count = request.count.value
    else:
        count = 0 if recipe.engine.name in ENGINES_WITHOUT_GPU else parallel
    share = request.share if request.HasField("share") else 1.0
    return GpuNeed(count, share, request.memory.bytes, tuple(request.model))


def why_not(host: Host, deployment: Deployment, need: GpuNeed, books: Books) -> str:
    """Why a replica of ``deployment`` cannot run on ``host`` now; empty when it can."""
    if host.state != Host.STATE_CONNECTED:
        return f"{Host.State.Name(host.state).removeprefix('STATE_').lower()}, {host.state_reason}"
    if host.cordoned:
        return "cordoned"
    placement = deployment.spec.placement
    missing = {key: value for key, value in placement.labels.items() if host.labels.get(key) != value}
    if missing:
        return "without the label " + ", ".join(f"{key}={value}" for key, value in sorted(missing.items()))
    if placement.hosts and host.name not in placement.hosts:
        return f"not among placement.hosts ({', '.join(placement.hosts)})"
    rivals = sorted(name for name in placement.anti_affinity if books.replicas[host.id].get(name))
    if rivals:
        return f"placement.anti_affinity keeps it apart from {rivals[0]}, which runs there"
    return _why_not_gpus(host, deployment, need, books)


def _why_not_gpus(host: Host, deployment: Deployment, need: GpuNeed, books: Books) -> str:
    if need.count == 0:
        return ""
    if len(host.gpus) < need.count:
        has = f"{len(host.gpus)} GPU" + ("" if len(host.gpus) == 1 else "s") if host.gpus else "no GPU"
        return f"{has}, {need.count} wanted"
    fitting = fitting_gpus(host, deployment, need, books)
    if len(fitting) >= need.count:
        return ""
    causes: dict[str, list[int]] = defaultdict(list)
    for gpu in host.gpus:
        cause = _why_not_gpu(gpu, deployment, need, books)
        if cause:
            causes[cause].append(gpu.index)
    told = "; ".join(f"GPU {','.join(map(str, sorted(indexes)))} {cause}" for cause, indexes in sorted(causes.items()))
    return f"{len(fitting)} of {need.count} wanted GPUs have room ({told})"


def fitting_gpus(host: Host, deployment: Deployment, need: GpuNeed, books: Books) -> list[Gpu]:
    """The GPUs of ``host`` that have room, in index order."""
    gpus = [gpu for gpu in host.gpus if not _why_not_gpu(gpu, deployment, need, books)]
    return sorted(gpus, key=lambda gpu: (gpu.index, gpu.uuid))


def _why_not_gpu(gpu: Gpu, deployment: Deployment, need: GpuNeed, books: Books) -> str:
    if gpu.health == Gpu.HEALTH_QUARANTINED:
        return f"quarantined: {gpu.health_reason}"
    pinned = deployment.spec.placement.gpus
    if pinned and gpu.uuid not in pinned:
        return "not among placement.gpus"
    words = gpu.model.upper().replace("-", " ").split()
    if need.models and not any(model.upper() in words for model in need.models):
        return f"{gpu.model}, not {' or '.join(need.models)}"
    if need.memory_bytes and gpu.memory_bytes < need.memory_bytes:
        return f"{gpu.memory_bytes / 2**30:.1f} GiB, {need.memory_bytes / 2**30:.1f} GiB wanted"
    # A hair of slack: shares such as 0.1 do not add up exactly.
    if books.taken[gpu.uuid] + need.share > 1 + 1e-9:
        return "taken"
    return ""
