"""Which GPUs of one host belong together: NVLink domains, NUMA nodes, alike devices.

Tensor parallelism exchanges activations in every layer, so its GPUs should share an NVLink domain, else at least a NUMA node.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence


def domains(links: Sequence[tuple[str, Iterable[str]]]) -> dict[str, int]:
    """The number of each GPU's NVLink domain, from ``(uuid, uuids of its peers)``; one without links is a domain of its own."""
    number = {uuid: position for position, (uuid, _) in enumerate(links)}
    for uuid, peers in links:
        for peer in peers:
            if peer in number and number[peer] != number[uuid]:
                low, high = sorted((number[peer], number[uuid]))
                number = {name: low if value == high else value for name, value in number.items()}
    return number


def narrow(positions: Sequence[int], count: int, key: Callable[[int], Hashable]) -> Sequence[int]:
    """The smallest group of positions with an equal ``key`` that still holds ``count``; all of them when no group does.

    The smallest, so that larger groups stay whole for who needs them; the first of equal ones.
    """
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for position in positions:
        groups[key(position)].append(position)
    large_enough = [group for group in groups.values() if len(group) >= count]
    return min(large_enough, key=len) if large_enough else positions
