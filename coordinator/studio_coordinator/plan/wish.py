"""What one replica asks of a host, drawn from its deployment and recipe: the whole input of placement beside the fleet."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from studio.v1.deployment_pb2 import Deployment
from studio.v1.recipe_pb2 import Recipe

from studio_coordinator.plan.engine_minimums import MINIMUM_OF_NONE, Minimum, minimum_for
from studio_coordinator.plan.parallelism import hosts_named, parallelism
from studio_coordinator.plan.sizing import UNKNOWN, Sizing

# Engines that run without a GPU where the recipe does not ask for one.
ENGINES_WITHOUT_GPU = frozenset({"demo"})
# Engines that can run one replica over several hosts (`--nnodes`).
ENGINES_ACROSS_HOSTS = frozenset({"vllm", "sglang", "demo"})


@dataclass(frozen=True)
class GpuNeed:
    """GPUs that one replica wants on one host. Hashable: the same need has the same answer on alike hosts."""

    count: int
    # Part of each GPU, 0 < share <= 1; None: the GPU for itself.
    share: float | None = None
    # On each GPU; 0: unknown.
    memory_bytes: int = 0
    # Acceptable models, matched as words of the device's name; empty: any.
    models: tuple[str, ...] = ()
    minimum: Minimum = MINIMUM_OF_NONE
    # Only these GPUs; None: any.
    pinned: frozenset[str] | None = None
    # For a part of a replica over several hosts.
    across: bool = False

    @property
    def exclusive(self) -> bool:
        """No other replica on its GPUs."""
        return self.share is None

    def share_of(self, gpu_memory_bytes: int) -> float:
        """Part that is reserved of a GPU of that size: the share or the bytes, whichever is more."""
        if self.share is None:
            return 1.0
        by_bytes = self.memory_bytes / gpu_memory_bytes if gpu_memory_bytes else 0.0
        return max(self.share, by_bytes)

    @property
    def demand(self) -> float:
        """GPUs taken, as a number: the size by which wishes are ordered and victims weighed."""
        return self.count * (1.0 if self.share is None else self.share)


@dataclass(frozen=True)
class Wish:
    """One replica's demands."""

    deployment: str
    gpus: GpuNeed
    priority: int = 0
    engine: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    # Names of the only hosts allowed; empty: any.
    hosts: tuple[str, ...] = ()
    # Deployments that must not be on the same host.
    apart: frozenset[str] = frozenset()
    # Fill hosts first, instead of one replica per host where possible.
    pack: bool = False
    host_memory_bytes: int = 0
    # For weights that are not on the host yet.
    disk_bytes: int = 0
    # Names the weights; empty: the engine needs none.
    weights: str = field(default="")
    # Hosts that one replica spans, with ``gpus`` on each; 0: one, or as few as hold it where no single host ever could.
    span: int = 0
    # The same model over more and smaller GPUs, for where ``gpus`` finds no room; fewest first.
    wider: tuple[GpuNeed, ...] = ()

    @property
    def demand(self) -> float:
        """GPUs taken on all of its hosts together."""
        return self.gpus.demand * max(1, self.span)


def wish_of(deployment: Deployment, recipe: Recipe, sizing: Sizing = UNKNOWN) -> Wish:
    """What a replica of ``deployment`` wants; bytes that the recipe itself names win over the estimate in ``sizing``."""
    placement = deployment.spec.placement
    return Wish(
        deployment=deployment.name,
        gpus=gpu_need(recipe, sizing, pinned=placement.gpus),
        priority=deployment.spec.priority,
        engine=recipe.engine.name,
        labels=tuple(sorted(placement.labels.items())),
        hosts=tuple(sorted(placement.hosts)),
        apart=frozenset(placement.anti_affinity) - {deployment.name},
        pack=placement.spread == "pack",
        host_memory_bytes=host_memory(recipe, sizing),
        disk_bytes=sizing.disk_bytes,
        weights=weights_key(recipe),
        span=hosts_named(recipe) or sizing.hosts,
        wider=tuple(
            _need(recipe, split.tensor_parallel, 0, split.gpu_memory_bytes, placement.gpus) for split in sizing.wider
        ),
    )


def gpu_need(recipe: Recipe, sizing: Sizing = UNKNOWN, *, pinned: Iterable[str] = ()) -> GpuNeed:
    """What the recipe asks of one host; ``auto`` is one GPU for each part of the parallelism, and the estimate's memory."""
    return _need(recipe, sizing.tensor_parallel, sizing.hosts, sizing.gpu_memory_bytes, pinned)


def _need(recipe: Recipe, tensor_parallel: int, hosts: int, gpu_memory_bytes: int, pinned: Iterable[str]) -> GpuNeed:
    request = recipe.resources.gpu
    if request.count.WhichOneof("kind") == "value":
        count = request.count.value
    elif recipe.engine.name in ENGINES_WITHOUT_GPU:
        count = 0
    else:
        hosts = hosts_named(recipe) or hosts or 1
        count = -(-parallelism(recipe, tensor_parallel, hosts).gpus // hosts)
    return GpuNeed(
        count,
        request.share if request.HasField("share") else None,
        request.memory.bytes or gpu_memory_bytes,
        tuple(request.model),
        # An engine program of the operator's own may be built for anything.
        MINIMUM_OF_NONE if recipe.engine.path else minimum_for(recipe.engine.name, recipe.engine.version),
        frozenset(pinned) or None,
        across=(hosts_named(recipe) or hosts) > 1,
    )


def host_memory(recipe: Recipe, sizing: Sizing = UNKNOWN) -> int:
    """Of the host's memory: what the recipe names, else what its weights take while it sleeps."""
    return recipe.resources.host_memory_bytes or sizing.host_memory_bytes


def weights_key(recipe: Recipe) -> str:
    """The name under which a host's model files are known: source and revision."""
    source = recipe.model.source
    return f"{source}@{recipe.model.revision}" if source and recipe.model.revision else source
