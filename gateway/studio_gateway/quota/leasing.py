"""The conversation with the coordinator about bounds, and the requests that wait for its answers.

One request is under way at a time; one whose answer was lost is sent again under the same number until it is answered, so that
nothing is counted twice. While the coordinator is away, a new minute begins with the outage amount, and nothing is asked in it
until the coordinator is known to be back.

A gateway that is silent for an hour is taken for dead, and its slots are leased to others. So one that asks for nothing, because
what it holds is enough, says every few minutes that it lives; and one that ends gives back what it holds, for its name may not be
heard of again for a while.
"""

import asyncio
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc
import structlog
from studio.v1.route_service_pb2 import (
    LeaseQuotaRequest,
    LeaseQuotaResponse,
    QuotaNeed,
    QuotaSettlement,
    QuotaSubject,
)

from studio_gateway import openai_errors as errors
from studio_gateway.link import Link
from studio_gateway.quota.allowance import MINUTE
from studio_gateway.quota.claims import Claim
from studio_gateway.quota.purse import Purse, Reservation

log = structlog.get_logger()

ANSWER_SECONDS = 3.0
# Asks of one moment go together; what comes later waits for the answer to them.
GATHER_SECONDS = 0.002
# How often it is looked whether something is to be given back.
LOOK_SECONDS = 1.0
RETRY_SECONDS = 0.25
# A sign of life is due after so long without an ask: many of them fit into the hour after which a gateway counts as dead.
SIGN_OF_LIFE_SECONDS = 240.0
# For giving back at the end; what cannot be given back in time is free again when the gateway is taken for dead.
FAREWELL_SECONDS = 2.0
MOST_WAITING = 2048
# A bound as clients are told of it, and the unit of its size.
NAMES = {
    QuotaSubject.BOUND_REQUESTS_PER_MINUTE: ("requests per minute", ""),
    QuotaSubject.BOUND_TOKENS_PER_MINUTE: ("tokens per minute", ""),
    QuotaSubject.BOUND_CONCURRENCY: ("requests at the same time", ""),
    QuotaSubject.BOUND_TOKEN_BUDGET: ("token budget", " tokens"),
    QuotaSubject.BOUND_MONEY_BUDGET: ("money budget", " millionths"),
}


@dataclass(eq=False, slots=True)
class Waiting:
    """A request that waits for its reservation."""

    claims: Sequence[Claim]
    granted: Callable[[Reservation], None]
    refused: Callable[[errors.ApiError], None]
    leasing: "Leasing"

    def stop(self) -> None:
        """The client is gone."""
        self.leasing.forget(self)

    def pause(self) -> None:
        """Nothing is sent yet."""

    def resume(self) -> None:
        """Nothing is sent yet."""


class Leasing:
    """What this process may spend. ``is_connected`` says whether the stream of tables is open: then a coordinator answers."""

    def __init__(self, link: Link, gateway_id: str, is_connected: Callable[[], bool]) -> None:
        self._link = link
        self._gateway_id = gateway_id
        self._instance_id = uuid.uuid4().hex
        self._is_connected = is_connected
        self._purse = Purse()
        self._waiting: deque[Waiting] = deque()
        self._wake = asyncio.Event()
        self._sequence = 0
        # Sent, and not answered yet.
        self._open: LeaseQuotaRequest | None = None
        self._failed = False
        self._asked_minute = 0
        # By a clock that nobody sets.
        self._asked_at = time.monotonic()

    def reserve(
        self,
        claims: Sequence[Claim],
        granted: Callable[[Reservation], None],
        refused: Callable[[errors.ApiError], None],
    ) -> Reservation | Waiting:
        """What ``claims`` ask for: at once where it is held, else later by ``granted`` or ``refused``. Raises ApiError."""
        now = time.time()
        # Who came first is served first.
        if not self._waiting and (reservation := self._purse.reserve(claims, now)) is not None:
            return reservation
        if (short := self._purse.short_of(claims, now)) is not None:
            raise self._refusal(short, now)
        if len(self._waiting) >= MOST_WAITING:
            raise errors.too_many_waiting()
        waiting = Waiting(claims, granted, refused, self)
        self._waiting.append(waiting)
        self._wake.set()
        return waiting

    def settle(self, reservation: Reservation, tokens: int, micros: int) -> None:
        """A request has ended; what it left may be what another waits for."""
        self._purse.settle(reservation, tokens, micros, time.time())
        if self._waiting:
            self._serve()

    def settle_whole(self, reservation: Reservation) -> None:
        """A request has ended, and nobody knows what it used: all that it had reserved, but for its slots."""
        for part in reservation.parts:
            self._purse.settle(Reservation([part]), part.amount, part.amount, time.time())
        if self._waiting:
            self._serve()

    def forget(self, waiting: Waiting) -> None:
        """A request waits no more."""
        if waiting in self._waiting:
            self._waiting.remove(waiting)

    async def run(self) -> None:
        """Ask until cancelled; then give back what no request has any more."""
        try:
            while True:
                try:
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._wake.wait()
                    await asyncio.sleep(GATHER_SECONDS)
                except TimeoutError:
                    pass
                self._wake.clear()
                await self._turn()
        finally:
            await self._give_back()
            await self._link.close()

    async def _turn(self) -> None:
        now = time.time()
        minute = int(now // MINUTE)
        if self._failed and not self._is_connected() and minute != self._asked_minute:
            self._purse.go_alone(now)
            self._serve()
            self._refuse_rest()
            return
        if self._open is None:
            needs = self._purse.needs((one.claims for one in self._waiting), now)
            if not needs and not self._is_due(now):
                return
            self._open = self._request(needs, self._purse.settlements(now), minute)
        await self._ask(self._open)

    def _is_due(self, now: float) -> bool:
        """Whether to ask though nothing is needed."""
        if self._purse.has_surplus(now):
            return True
        if self._purse.has_minutes() and int(now // MINUTE) != self._asked_minute:
            return True
        return self._purse.has_anything() and time.monotonic() - self._asked_at >= SIGN_OF_LIFE_SECONDS

    def _request(
        self, needs: Sequence[QuotaNeed], settlements: Sequence[QuotaSettlement], minute: int
    ) -> LeaseQuotaRequest:
        self._sequence += 1
        self._asked_minute, self._asked_at = minute, time.monotonic()
        return LeaseQuotaRequest(
            gateway_id=self._gateway_id,
            gateway_instance_id=self._instance_id,
            sequence=self._sequence,
            needs=needs,
            settlements=settlements,
            minute=minute,
        )

    async def _give_back(self) -> None:
        """The last words to the coordinator. First the request whose answer is not known: it may have granted something."""
        try:
            async with asyncio.timeout(FAREWELL_SECONDS):
                if self._open is not None:
                    answer = await self._say(self._open)
                    self._purse.take_grants(self._open.needs, answer.grants, time.time())
                    self._open = None
                if self._sequence:
                    now = time.time()
                    last = self._request((), self._purse.settlements(now, is_last=True), int(now // MINUTE))
                    last.is_last = True
                    await self._say(last)
        except (grpc.aio.AioRpcError, TimeoutError) as error:
            log.warning("quota_not_given_back", error=str(error) or "no answer in time")

    async def _say(self, request: LeaseQuotaRequest) -> LeaseQuotaResponse:
        return await self._link.service().LeaseQuota(request, timeout=ANSWER_SECONDS, metadata=self._link.metadata())

    async def _ask(self, request: LeaseQuotaRequest) -> None:
        try:
            answer = await self._say(request)
        except grpc.aio.AioRpcError as error:
            log.warning("quota_not_leased", error=error.details(), code=error.code().name)
            self._failed = True
            if error.code() == grpc.StatusCode.INVALID_ARGUMENT:
                # Sent again it would be refused again.
                self._open = None
            self._refuse_rest()
            await self._link.turn()
            await asyncio.sleep(RETRY_SECONDS)
            if self._open is not None and self._is_connected():
                self._wake.set()
            return
        self._failed, self._open = False, None
        self._purse.take_grants(request.needs, answer.grants, time.time())
        self._serve()
        if self._waiting:
            self._wake.set()

    def _serve(self) -> None:
        """Let those go on whose claims are covered now, and refuse those whose never will be soon; the others wait."""
        now = time.time()
        waiting, self._waiting = self._waiting, deque()
        stuck: set[object] = set()
        for one in waiting:
            bounds = {claim.bound for claim in one.claims}
            # Who came later does not overtake one that waits for the same bound.
            if stuck.isdisjoint(bounds) and (reservation := self._purse.reserve(one.claims, now)) is not None:
                one.granted(reservation)
            elif (short := self._purse.short_of(one.claims, now)) is not None:
                one.refused(self._refusal(short, now))
            else:
                stuck |= bounds
                self._waiting.append(one)

    def _refuse_rest(self) -> None:
        """Whoever still waits is told that nobody can say whether they may."""
        waiting, self._waiting = self._waiting, deque()
        for one in waiting:
            one.refused(errors.quota_unknown(MINUTE - int(time.time()) % MINUTE))

    def _refusal(self, short: Claim, now: float) -> errors.ApiError:
        seconds = max(1, round(self._purse.empty_until(short) - now))
        name, unit = NAMES[short.bound.bound]
        return errors.over_limit(short.bound.owner, name, short.limit, unit, seconds)
