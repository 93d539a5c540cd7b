"""All requests that wait for a model."""

import functools
from collections.abc import Callable

from studio_gateway.deadlines import Deadlines
from studio_gateway.exchange import Exchange
from studio_gateway.fair import FairQueue, QueueFullError
from studio_gateway.openai_errors import ApiError, model_unavailable, model_waking
from studio_gateway.table import Model, Routes
from studio_gateway.traffic import Traffic
from studio_gateway.waking.held import Go, Held


class WaitingRoom:
    """One queue for each model that somebody waits for."""

    def __init__(self, deadlines: Deadlines, traffic: Traffic) -> None:
        self._deadlines = deadlines
        self._traffic = traffic
        self._queues: dict[str, FairQueue[Held]] = {}

    def hold(
        self,
        exchange: Exchange,
        model: Model,
        tenant: str,
        weight: float,
        *,
        streams: bool,
        go: Go,
        refuse: Callable[[ApiError], None],
    ) -> Held:
        """Have a request wait for ``model``; then ``go`` is called with it as it is then, or ``refuse``. Raises ApiError."""
        queue = self._queues.get(model.name)
        if queue is None:
            queue = self._queues[model.name] = FairQueue(model.wake_queue)
        queue.limit = model.wake_queue
        held = Held(
            exchange,
            self._deadlines,
            model.wake_seconds,
            streams=streams,
            go=go,
            refuse=refuse,
            too_late=lambda: model_waking(model.name, f"was not up within {model.wake_seconds:.0f} s"),
            left=functools.partial(self._left, model.name, tenant),
        )
        try:
            displaced = queue.offer(tenant, held, weight)
        except QueueFullError:
            self._deadlines.forget(held)
            self._drop_if_empty(model.name)
            raise _full(model) from None
        self._traffic.held(model.name, 1)
        if displaced is not None:
            # It is out of the queue already; what it leaves is its place among the held.
            displaced.refuse(_full(model))
        return held

    def look(self, routes: Routes) -> None:
        """A table has come into force: send those whose model is up, refuse those whose model will not be."""
        for name, queue in list(self._queues.items()):
            model = routes.by_name.get(name)
            if model is not None and model.targets:
                while len(queue):
                    queue.take().release(model)
            elif model is None or not model.is_wakeable:
                reason = model.unavailable_reason if model is not None else "it is not served any more"
                while len(queue):
                    queue.take().refuse(model_unavailable(name, reason, starting=False))

    def _left(self, name: str, tenant: str, held: Held) -> None:
        queue = self._queues.get(name)
        if queue is not None:
            queue.remove(tenant, held)
        self._traffic.held(name, -1)
        self._drop_if_empty(name)

    def _drop_if_empty(self, name: str) -> None:
        queue = self._queues.get(name)
        if queue is not None and not len(queue):
            del self._queues[name]


def _full(model: Model) -> ApiError:
    return model_waking(model.name, f"{model.wake_queue} requests wait for it already")
