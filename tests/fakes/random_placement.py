"""Small random fleets and wishes for Hypothesis, and a plain restatement of what fits where."""

from collections.abc import Mapping, Sequence

from builders import GIB, a_gpu, a_host
from hypothesis import strategies as st
from studio.v1.host_pb2 import Gpu, Host
from studio_coordinator.plan.fleet import Fleet
from studio_coordinator.plan.wish import GpuNeed, Wish

MODELS = {"NVIDIA H100 80GB HBM3": 80, "Tesla T4": 16}
NAMES = ("chat", "embed", "big")


@st.composite
def some_hosts(draw: st.DrawFn, most: int = 5) -> list[Host]:
    hosts = []
    for number in range(draw(st.integers(1, most))):
        model = draw(st.sampled_from(sorted(MODELS)))
        count = draw(st.integers(0, 4))
        gpus = [
            a_gpu(f"GPU-{number}-{index}", index, model=model, memory_bytes=MODELS[model] * GIB, numa_node=index // 2)
            for index in range(count)
        ]
        for index, gpu in enumerate(gpus):
            if draw(st.integers(0, 9)) == 0:
                gpu.health = Gpu.HEALTH_QUARANTINED
            if draw(st.integers(0, 5)) == 0:
                gpu.figures.processes.add(pid=1, memory_used_bytes=draw(st.integers(0, MODELS[model])) * GIB)
            if index % 2 and draw(st.booleans()):
                gpu.nvlink_peers.append(gpus[index - 1].uuid)
        labels = {"rack": draw(st.sampled_from("ab"))}
        host = a_host(f"h{number}", gpus=gpus, labels=labels, cordoned=draw(st.integers(0, 9)) == 0)
        if draw(st.integers(0, 5)) == 0:
            # An agent that is still to be upgraded.
            del host.facts.features[:]
        host.figures.memory_used_bytes = draw(st.sampled_from([0, 40 * GIB]))
        hosts.append(host)
    return hosts


@st.composite
def a_wish(draw: st.DrawFn, priorities: Sequence[int] = (0,)) -> Wish:
    share = draw(st.sampled_from([None, None, 0.1, 0.3, 0.5]))
    need = GpuNeed(
        draw(st.sampled_from([0, 1, 1, 1, 2, 2, 3, 4])),
        share,
        draw(st.sampled_from([0, 10, 40, 70])) * GIB,
        draw(st.sampled_from([(), (), (), ("H100",), ("T4",)])),
        pinned=draw(st.sampled_from([None] * 6 + [frozenset({"GPU-0-0", "GPU-0-1", "GPU-1-0"})])),
    )
    return Wish(
        draw(st.sampled_from(NAMES)),
        need,
        priority=draw(st.sampled_from(priorities)),
        labels=draw(st.sampled_from([(), (), (("rack", "a"),)])),
        hosts=draw(st.sampled_from([(), (), (), ("h0", "h1")])),
        apart=draw(st.sampled_from([frozenset[str](), frozenset[str](), frozenset({"embed"})])),
        pack=draw(st.booleans()),
        host_memory_bytes=draw(st.sampled_from([0, 0, 0, 30 * GIB])),
        weights=draw(st.sampled_from(["", "hf://a/b"])),
    )


def fits_alone(hosts: Sequence[Host], wish: Wish) -> bool:
    """Whether some host could run the wish if nothing of ours ran anywhere: the rules once more, in plain words."""
    return any(host_fits(host, wish) for host in hosts)


def host_fits(host: Host, wish: Wish) -> bool:
    """Whether this host could run it, or its part of it."""
    if host.cordoned or any(host.labels.get(key) != value for key, value in wish.labels):
        return False
    if wish.span > 1 and "groups" not in host.facts.features:
        return False
    if wish.hosts and host.name not in wish.hosts:
        return False
    if wish.host_memory_bytes > host.facts.memory_bytes - host.figures.memory_used_bytes:
        return False
    return sum(_gpu_fits(gpu, wish.gpus) for gpu in host.gpus) >= wish.gpus.count


def _gpu_fits(gpu: Gpu, need: GpuNeed) -> bool:
    if gpu.health == Gpu.HEALTH_QUARANTINED or (need.pinned is not None and gpu.uuid not in need.pinned):
        return False
    if need.models and not any(model in gpu.model for model in need.models):
        return False
    foreign = sum(process.memory_used_bytes for process in gpu.figures.processes)
    if need.memory_bytes:
        reserved = max(need.memory_bytes, int((need.share or 0) * gpu.memory_bytes))
        return gpu.memory_bytes - foreign >= reserved
    if foreign <= 0.05 * gpu.memory_bytes:
        return True
    return need.share is not None and (1 - need.share) * gpu.memory_bytes >= foreign


def overcommitted(hosts: Sequence[Host], fleet: Fleet, placed: Mapping[str, Wish]) -> list[str]:
    """GPUs on which more is promised than there is, counted anew from what was placed."""
    found = []
    for host in hosts:
        for gpu in host.gpus:
            here = [
                placed[name]
                for name in placed
                for view in fleet.hosts_of(name)
                if view.host.id == host.id and gpu.uuid in view.replicas[name].gpu_uuids
            ]
            foreign = sum(process.memory_used_bytes for process in gpu.figures.processes)
            parts = [wish.gpus.share for wish in here]
            memory = sum(wish.gpus.memory_bytes for wish in here)
            if (None in parts and len(parts) > 1) or sum(part or 1 for part in parts) > 1 + 1e-6:
                found.append(f"{gpu.uuid}: shares {parts}")
            if memory + (foreign if memory else 0) > gpu.memory_bytes:
                found.append(f"{gpu.uuid}: {memory} + {foreign} of {gpu.memory_bytes}")
    return found
