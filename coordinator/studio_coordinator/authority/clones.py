"""Two machines with one identity, seen by who comes back.

Every start of an agent has an instance id of its own, and one state folder has one agent at a time. So an instance that was
replaced by another one has ended; one that calls again all the same runs on another machine, with a copy of the folder. Once may
be a call that was long on its way; twice is two machines that push each other out.
"""

REMEMBERED_INSTANCES = 4
RETURNS = 2


class CloneWatch:
    """Remembers the last instances of each host."""

    def __init__(self) -> None:
        self._instances: dict[str, tuple[str, ...]] = {}
        self._returns: dict[str, int] = {}

    def called(self, host_id: str, instance_id: str) -> bool:
        """Note a call; whether it proves that two machines hold this identity."""
        seen = self._instances.get(host_id, ())
        if seen and seen[-1] == instance_id:
            return False
        if instance_id in seen:
            self._returns[host_id] = self._returns.get(host_id, 0) + 1
        others = [one for one in seen if one != instance_id]
        self._instances[host_id] = (*others, instance_id)[-REMEMBERED_INSTANCES:]
        return self._returns.get(host_id, 0) >= RETURNS

    def forget(self, host_id: str) -> None:
        """Begin anew: the host has joined again."""
        self._instances.pop(host_id, None)
        self._returns.pop(host_id, None)
