"""Fleets and wishes for the scheduler's benchmarks, made from a seed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from studio.v1.host_pb2 import Gpu, Host
from studio_coordinator.plan.fleet import Fleet
from studio_coordinator.plan.make_room import make_room
from studio_coordinator.plan.occupancy import Held
from studio_coordinator.plan.order import order_key
from studio_coordinator.plan.wish import GpuNeed, Wish

GIB = 2**30
SIZES = ((1, 62), (2, 22), (4, 10), (8, 6))
KINDS = (
    ("NVIDIA RTX A6000", 48),
    ("NVIDIA A100-SXM4-80GB", 80),
    ("NVIDIA H100 80GB HBM3", 80),
    ("NVIDIA H200", 141),
)


def a_host(name: str, gpus: int, model: str = "NVIDIA H100 80GB HBM3", memory_gib: int = 80, **fields: object) -> Host:
    """A connected host with alike GPUs in one NVLink domain and, from four on, two NUMA nodes."""
    uuids = [f"GPU-{name}-{index}" for index in range(gpus)]
    devices = [
        Gpu(
            uuid=uuid,
            index=index,
            model=model,
            memory_bytes=memory_gib * GIB,
            numa_node=index * 2 // gpus if gpus >= 4 else 0,  # noqa: PLR2004 - see above
            nvlink_peers=[other for other in uuids if other != uuid],
        )
        for index, uuid in enumerate(uuids)
    ]
    return Host(id=f"id-{name}", name=name, state=Host.STATE_CONNECTED, gpus=devices, **fields)


def large_fleet(hosts: int) -> list[Host]:
    """Alike hosts with 8 GPUs each."""
    return [a_host(f"gpu-{number:05}", 8) for number in range(hosts)]


def mixed_fleet(random: Random, hosts: int) -> list[Host]:
    """Hosts of four makes with 2 to 8 GPUs, in 20 racks; here and there a GPU is broken or a stranger's process holds memory."""
    made = []
    for number in range(hosts):
        model, memory = random.choice(KINDS)
        host = a_host(f"gpu-{number:05}", random.choice((2, 4, 8, 8)), model, memory, labels={"rack": str(number % 20)})
        gpu = random.choice(host.gpus)
        if _chance(random, 0.02):
            gpu.health = Gpu.HEALTH_QUARANTINED
        elif _chance(random, 0.05):
            gpu.figures.processes.add(pid=number, command="python", memory_used_bytes=random.randint(1, 40) * GIB)
        made.append(host)
    return made


def churned(random: Random, hosts: list[Host], share_full: float) -> Fleet:
    """A fleet with a history: filled, a third of the replicas gone at random, filled again up to ``share_full`` of its GPUs."""
    fleet = Fleet.of(hosts)
    gpus = sum(len(host.gpus) for host in hosts)
    held: dict[str, float] = {}
    used = 0.0
    for turn in range(2):
        for number, wish in enumerate(mixed_wishes(random, gpus // 2)):
            best = fleet.best(wish) if used < share_full * gpus else None
            if best is not None:
                name = f"r{turn}-{number}"
                used += wish.gpus.demand
                fleet.add(Held.at(name, wish, best.gpu_uuids), best.view.host.id)
                held[name] = wish.gpus.demand
        if turn == 0:
            for name in random.sample(sorted(held), len(held) // 3):
                fleet.remove(name)
                used -= held.pop(name)
    return fleet


def mixed_wishes(random: Random, replicas: int) -> list[Wish]:
    """Replicas of deployments with 1 to 16 of them, 1, 2, 4 or 8 GPUs each, in the order in which a pass places them."""
    wishes: list[Wish] = []
    while len(wishes) < replicas:
        (count,) = random.choices([size for size, _ in SIZES], [weight for _, weight in SIZES])
        need = GpuNeed(count, memory_bytes=random.choice((16, 24, 40, 70)) * GIB)
        wish = Wish(f"d{len(wishes):05}", need, pack=_chance(random, 0.3))
        wishes += [wish] * min(random.randint(1, 16), replicas - len(wishes))
    return sorted(wishes, key=order_key)


def place_all(fleet: Fleet, wishes: Sequence[Wish]) -> dict[str, Wish]:
    """Place one wish after the other, as a pass does; the placed ones, by id."""
    placed: dict[str, Wish] = {}
    for number, wish in enumerate(wishes):
        name = f"r{number}"
        best = fleet.best(wish)
        if best is not None:
            fleet.add(Held.at(name, wish, best.gpu_uuids), best.view.host.id)
        elif make_room(fleet, name, wish, placed) is None:
            continue
        placed[name] = wish
    return placed


@dataclass(frozen=True)
class Puzzle:
    """A small fleet and more wishes than may fit."""

    hosts: list[Host]
    wishes: list[Wish]


def puzzle(seed: int) -> Puzzle:
    """4 to 10 hosts of different make with 1, 2, 4 or 8 GPUs, some broken; wishes for 70 % to 140 % of the GPUs.

    Wishes are for 1, 2, 4 or 8 GPUs, a few for 3 or 6, some for a part of one; some want a model, much memory, or a label.
    """
    random = Random(seed)
    hosts = []
    for number in range(random.randint(4, 10)):
        model, memory = random.choice(KINDS)
        host = a_host(f"h{number}", random.choice((1, 2, 4, 8, 8)), model, memory, labels={"rack": str(number % 2)})
        for gpu in host.gpus:
            if _chance(random, 0.05):
                gpu.health = Gpu.HEALTH_QUARANTINED
        hosts.append(host)
    total = sum(len(host.gpus) for host in hosts)
    wishes: list[Wish] = []
    wanted = total * random.uniform(0.7, 1.4)
    while sum(wish.gpus.demand for wish in wishes) < wanted:
        wishes.append(_wish(random, f"d{len(wishes)}"))
    return Puzzle(hosts, wishes)


def _wish(random: Random, name: str) -> Wish:
    (count,) = random.choices((1, 2, 4, 8, 3, 6), (40, 25, 15, 10, 5, 5))
    need = GpuNeed(count, memory_bytes=random.choice((0, 16, 40, 70, 120)) * GIB)
    if count == 1 and _chance(random, 0.4):
        need = replace(need, share=random.choice((0.2, 0.25, 0.3, 0.5)), memory_bytes=0)
    if _chance(random, 0.2):
        need = replace(need, models=(random.choice(("A6000", "A100", "H100", "H200")),))
    labels = (("rack", random.choice("01")),) if _chance(random, 0.1) else ()
    return Wish(name, need, labels=labels, pack=_chance(random, 0.5))


def _chance(random: Random, share: float) -> bool:
    return random.random() < share
