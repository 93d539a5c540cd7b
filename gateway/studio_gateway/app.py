"""What the gateway is asked: which answer a path gets, and the one exit that every request leaves by.

==================== ======= =============================================================
path                 key     answer
==================== ======= =============================================================
``/health``          no      200 while the process serves
``/ready``           no      200 with both tables in force, else 503
``/v1/models[/ID]``  yes     from the route table
``/v1/…``            yes     from an engine of the fleet, or through LiteLLM
anything else        no      404
==================== ======= =============================================================

Path and key are looked at when the head is here: nobody without a key has a body taken in.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

import structlog
from studio.v1.route_pb2 import UsageRecord

from studio_gateway import openai_errors as errors
from studio_gateway.account import Account, Metrics
from studio_gateway.call import Call
from studio_gateway.crowd import Crowd
from studio_gateway.exchange import Exchange
from studio_gateway.forward import Forwarder
from studio_gateway.in_force import InForce
from studio_gateway.keys import Key, presented_key
from studio_gateway.limits import Limits
from studio_gateway.quota.leasing import Leasing
from studio_gateway.request import Request
from studio_gateway.table import Model
from studio_gateway.trace import tracing
from studio_gateway.traffic import Traffic
from studio_gateway.waking.room import WaitingRoom
from studio_gateway.work import Done, Work

log = structlog.get_logger()


class ProviderLane(Protocol):
    """Models of other providers, and those of the fleet that are reached through LiteLLM."""

    def forward(
        self,
        exchange: Exchange,
        call: Call,
        model: Model,
        account: Account,
        traceparent: str,
        done: Done,
        *,
        has_others: bool,
    ) -> Work:
        """Answer ``exchange`` for ``model``; ``done`` is called once, at the end. Raises ApiError.

        ``has_others``: a refusal may be an end with an error, for other models can be asked.
        """


class Gateway:
    """All requests. ``record`` takes the usage record of every request that a key is accountable for."""

    def __init__(
        self,
        in_force: InForce,
        forwarder: Forwarder,
        providers: ProviderLane,
        record: Callable[[UsageRecord], None],
        metrics: Metrics,
        limits: Limits,
        leasing: Leasing,
        traffic: Traffic,
        waiting: WaitingRoom,
    ) -> None:
        self.in_force = in_force
        self.traffic = traffic
        self.waiting = waiting
        self.leasing = leasing
        self.crowd = Crowd()
        self.forwarder = forwarder
        self.providers = providers
        self.record = record
        self.metrics = metrics
        self.limits = limits
        self.begin_trace = tracing()
        self.running: set[Request] = set()
        self.by_key: dict[str, int] = {}
        # Set whenever nothing runs.
        self.is_idle = asyncio.Event()
        self.is_idle.set()
        metrics.in_flight.set_function(lambda: len(self.running))

    def open(self, exchange: Exchange) -> Request:
        """The head of a request is here."""
        request = Request(self, exchange)
        request.open()
        return request

    def key_of(self, exchange: Exchange) -> Key:
        """Whose request it is. Raises ApiError."""
        ring = self.in_force.keys
        if ring is None:
            raise errors.not_ready()
        presented = presented_key(exchange.by_name)
        if not presented:
            raise errors.missing_api_key()
        key = ring.find(presented)
        if key is None:
            raise errors.invalid_api_key()
        if refusal := key.refusal(time.time()):
            raise errors.invalid_api_key(refusal)
        return key

    def end_all(self) -> None:
        """End whatever runs: the process stops."""
        late = list(self.running)
        for request in late:
            request.abandon(errors.shutting_down())
        if late:
            log.warning("requests_ended_by_drain", count=len(late))
