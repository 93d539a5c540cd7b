"""One replica over several hosts: equal groups of GPUs, where no single host could ever hold it."""

from collections import defaultdict
from dataclasses import replace

from studio_coordinator.plan.fleet import Fit, Fleet
from studio_coordinator.plan.gpus import unfit
from studio_coordinator.plan.wish import ENGINES_ACROSS_HOSTS, GpuNeed, Wish


def across(fleet: Fleet, wish: Wish) -> list[Fit]:
    """The fewest hosts with equal, alike groups of GPUs that have room together; empty when there are none.

    A host that is only busy now is waited for instead: crossing the network costs every token.
    """
    need = wish.gpus
    if wish.engine not in ENGINES_ACROSS_HOSTS or not need.exclusive or need.count <= 1 or _one_host_could(fleet, need):
        return []
    for hosts in range(2, need.count + 1):
        if need.count % hosts:
            continue
        part = replace(wish, gpus=replace(need, count=need.count // hosts))
        groups: dict[tuple[str, int], list[Fit]] = defaultdict(list)
        for view in fleet.views:
            fit = fleet.fit(view, part)
            if fit is not None:
                device = view.devices[fit.chosen.positions[0]]
                groups[device.model, device.memory_bytes].append(fit)
        large_enough = [
            sorted(fits, key=lambda fit: fit.order)[:hosts] for fits in groups.values() if len(fits) >= hosts
        ]
        if large_enough:
            return min(large_enough, key=lambda fits: [fit.order for fit in fits])
    return []


def _one_host_could(fleet: Fleet, need: GpuNeed) -> bool:
    shapes = {view.devices for view in fleet.views}
    return any(sum(not unfit(device, need) for device in devices) >= need.count for devices in shapes)
