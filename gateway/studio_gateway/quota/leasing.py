"""The conversation with the coordinator about bounds, and the requests that wait for its answers.

One request is under way at a time; one whose answer was lost is sent again under the same number until it is answered, so that
nothing is counted twice. While the coordinator is away, a new minute begins with the outage amount, and nothing is asked in it
until the coordinator is known to be back.
"""

import asyncio
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc
import structlog
from studio.v1.route_service_pb2 import LeaseQuotaRequest, QuotaSubject

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
        """Ask for as long as the process lives."""
        while True:
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._wake.wait()
                await asyncio.sleep(GATHER_SECONDS)
            except TimeoutError:
                pass
            self._wake.clear()
            await self._turn()

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
            is_due = self._purse.has_surplus(now) or (self._purse.has_minutes() and minute != self._asked_minute)
            if not needs and not is_due:
                return
            self._sequence += 1
            self._open = LeaseQuotaRequest(
                gateway_id=self._gateway_id,
                gateway_instance_id=self._instance_id,
                sequence=self._sequence,
                needs=needs,
                settlements=self._purse.settlements(now),
                minute=minute,
            )
            self._asked_minute = minute
        await self._ask(self._open)

    async def _ask(self, request: LeaseQuotaRequest) -> None:
        try:
            answer = await self._link.service().LeaseQuota(
                request, timeout=ANSWER_SECONDS, metadata=self._link.metadata()
            )
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
