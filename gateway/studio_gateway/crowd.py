"""More requests than a model's engines work on at once: they wait here, and tenants take turns by weight.

An engine answers in the order of arrival: one tenant's burst would be everybody's wait. Where the capacity of a model's engines
is known (``max_num_seqs`` of its recipe), no more than that is sent, and whoever waits longest in its tenant's line goes next.
Counted in this process: several gateways or workers each send as much, and what is too much then waits in the engine.
"""

from collections.abc import Callable

from studio_gateway.fair import FairQueue, QueueFullError
from studio_gateway.openai_errors import ApiError, crowded
from studio_gateway.table import Model

MOST_WAITING = 1024


class Place:
    """One request that waits for its turn, as work that a client can leave."""

    __slots__ = ("_crowd", "_go", "_model", "_refuse", "_tenant")

    def __init__(
        self,
        crowd: "Crowd",
        model: str,
        tenant: str,
        go: Callable[[], None],
        refuse: Callable[[ApiError], None],
    ) -> None:
        self._crowd = crowd
        self._model = model
        self._tenant = tenant
        self._go = go
        self._refuse = refuse

    def take(self) -> None:
        """It is its turn."""
        self._go()

    def displace(self) -> None:
        """Another tenant has fewer that wait."""
        self._refuse(crowded(self._model))

    def stop(self) -> None:
        """The client is gone."""
        self._crowd.forget(self._model, self._tenant, self)

    def pause(self) -> None:
        """Nothing is sent yet."""

    def resume(self) -> None:
        """Nothing is sent yet."""


class Crowd:
    """Who is with the engines of each model, and who waits."""

    def __init__(self) -> None:
        self._inside: dict[str, int] = {}
        self._capacity: dict[str, int] = {}
        self._waiting: dict[str, FairQueue[Place]] = {}
        # Whose line is being called: who is called and ends at once only makes room, and does not call the next itself.
        self._calling: set[str] = set()

    def enter(self, model: Model) -> bool:
        """Whether a request may be sent now; then it has to ``leave`` at its end."""
        self._capacity[model.name] = model.capacity
        inside = self._inside.get(model.name, 0)
        if model.name in self._waiting or (model.capacity and inside >= model.capacity):
            return False
        self._inside[model.name] = inside + 1
        return True

    def wait(
        self,
        model: Model,
        tenant: str,
        weight: float,
        go: Callable[[], None],
        refuse: Callable[[ApiError], None],
    ) -> Place:
        """Have a request wait; when ``go`` is called it is inside. Raises ApiError where nobody else can wait."""
        queue = self._waiting.get(model.name) or FairQueue[Place](MOST_WAITING)
        place = Place(self, model.name, tenant, go, refuse)
        try:
            displaced = queue.offer(tenant, place, weight)
        except QueueFullError:
            raise crowded(model.name) from None
        self._waiting[model.name] = queue
        if displaced is not None:
            displaced.displace()
        return place

    def leave(self, model: str) -> None:
        """A request that was inside has ended: others may go."""
        self._inside[model] -= 1
        if not self._inside[model]:
            del self._inside[model]
        self._admit(model)

    def forget(self, model: str, tenant: str, place: Place) -> None:
        """A request waits no more."""
        queue = self._waiting.get(model)
        if queue is not None:
            queue.remove(tenant, place)
            if not len(queue):
                del self._waiting[model]

    def _admit(self, model: str) -> None:
        if model in self._calling:
            return
        self._calling.add(model)
        try:
            self._call_waiting(model)
        finally:
            self._calling.discard(model)

    def _call_waiting(self, model: str) -> None:
        while (queue := self._waiting.get(model)) is not None:
            capacity, inside = self._capacity.get(model, 0), self._inside.get(model, 0)
            if capacity and inside >= capacity:
                return
            place = queue.take()
            if not len(queue):
                del self._waiting[model]
            self._inside[model] = inside + 1
            place.take()
