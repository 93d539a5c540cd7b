"""RouteService: parts of keys', users' and tenants' bounds for gateways, each in one transaction."""

import math
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from google.protobuf.duration_pb2 import Duration
from studio.v1.route_pb2 import Limits
from studio.v1.route_service_pb2 import (
    LeaseQuotaRequest,
    LeaseQuotaResponse,
    QuotaGrant,
    QuotaNeed,
    QuotaSettlement,
    QuotaSubject,
)
from studio_runtime.errors import InvalidError

from studio_coordinator.quota import (
    ENDLESS,
    FIELDS,
    PER_MINUTE,
    Standing,
    grant,
    limit_of,
    outage_amount,
    seconds_left,
    window_of,
)
from studio_coordinator.store import access, quota, tenants
from studio_coordinator.store.database import Connection
from studio_coordinator.store.quota import Place, owner_of

MOST_SUBJECTS = 2000
MOST_UNITS = 10**15


def check(request: LeaseQuotaRequest) -> None:
    """Raise InvalidError where a gateway asks for what makes no sense."""
    if not request.gateway_id or not request.gateway_instance_id or request.sequence < 1:
        raise InvalidError("a request for quota names its gateway, its instance and a sequence from 1 on")
    if len(request.needs) + len(request.settlements) > MOST_SUBJECTS:
        raise InvalidError(f"more than {MOST_SUBJECTS} needs and settlements in one request for quota")
    amounts = [need.amount for need in request.needs]
    amounts += [units for item in request.settlements for units in (item.overdrawn, item.returned)]
    if any(not 0 <= amount <= MOST_UNITS for amount in amounts):
        raise InvalidError("an amount of quota is negative or absurdly large")
    subjects = _subjects(request)
    if any(subject.WhichOneof("owner") is None or subject.bound not in FIELDS for subject in subjects):
        raise InvalidError("a request for quota names a bound that does not exist, or nobody's")


async def lease(conn: Connection, request: LeaseQuotaRequest, at: datetime) -> LeaseQuotaResponse:
    """Settle what the gateway gives back, and grant what it needs as far as there is some; a repeated request changes nothing."""
    known = await quota.gateway(conn, request.gateway_instance_id, request.gateway_id, at)
    if known is not None and request.sequence == known.sequence:
        return known.answer
    if known is not None and request.sequence < known.sequence:
        raise InvalidError(f"quota request {request.sequence} of this gateway was overtaken by {known.sequence}")
    if known is None and request.is_last:
        # Forgotten already, as after its last request the first time: what it gives back is not counted twice.
        return LeaseQuotaResponse()
    if known is None:
        await quota.keep_answer(
            conn, request.gateway_instance_id, request.gateway_id, request.sequence, LeaseQuotaResponse(), at
        )
    answer = LeaseQuotaResponse(grants=await _Desk(conn, request.gateway_instance_id, at).serve(request))
    await quota.keep_answer(conn, request.gateway_instance_id, request.gateway_id, request.sequence, answer, at)
    if request.is_last:
        await quota.farewell(conn, request.gateway_instance_id)
    return answer


class _Desk:
    """One request being served."""

    def __init__(self, conn: Connection, instance_id: str, at: datetime) -> None:
        self.conn = conn
        self.instance_id = instance_id
        self.now = at.timestamp()
        self.limits: dict[str, Limits] = {}
        # In which the gateway made its request; one that is sent again may be of an earlier one.
        self.minute = 0

    async def serve(self, request: LeaseQuotaRequest) -> list[QuotaGrant]:
        self.limits = await _limits_of(self.conn, _subjects(request))
        needed = {self._place(need.subject): need for need in request.needs}
        current = [item for item in request.settlements if item.window == self._place(item.subject)[2]]
        leased = await quota.lock(self.conn, [*needed, *(self._place(item.subject) for item in current)])
        self.minute = request.minute
        await quota.asked(self.conn, self.instance_id, request.minute)
        await self._settle(current, leased)
        gateways = await quota.gateways(self.conn)
        grants = [await self._grant(place, need, leased, gateways) for place, need in needed.items()]
        await quota.put(self.conn, leased)
        return grants

    def _place(self, subject: QuotaSubject) -> Place:
        owner = owner_of(subject)
        period = self.limits[owner].budget_period if owner in self.limits else Limits.PERIOD_UNSPECIFIED
        return owner, subject.bound, window_of(subject.bound, period, self.now)

    async def _settle(self, settlements: Sequence[QuotaSettlement], leased: dict[Place, int]) -> None:
        slots: dict[str, int] = defaultdict(int)
        for item in settlements:
            place = self._place(item.subject)
            if item.subject.bound == QuotaSubject.BOUND_CONCURRENCY:
                slots[place[0]] += item.returned
            else:
                leased[place] = max(0, leased[place] - item.returned + item.overdrawn)
        for owner, returned in slots.items():
            held = await quota.slots_held(self.conn, owner, QuotaSubject.BOUND_CONCURRENCY)
            await quota.hold(
                self.conn,
                self.instance_id,
                owner,
                QuotaSubject.BOUND_CONCURRENCY,
                window=ENDLESS,
                slots=max(0, held.get(self.instance_id, 0) - returned),
            )

    async def _grant(self, place: Place, need: QuotaNeed, leased: dict[Place, int], gateways: int) -> QuotaGrant:
        owner, bound, window = place
        limit = limit_of(self.limits[owner], bound) if owner in self.limits else None
        answer = QuotaGrant(subject=need.subject, window=window)
        if limit is None:
            # Lifted since the gateway read it: nothing binds.
            answer.amount = need.amount
            return answer
        if bound == QuotaSubject.BOUND_CONCURRENCY:
            # Counted by gateway; the locked row only keeps others from counting at the same time.
            answer.amount = await self._slots(owner, limit, need.amount)
            answer.outage_amount = outage_amount(limit, gateways, 0)
        elif bound in PER_MINUTE:
            others = await quota.kept_for_others(self.conn, owner, bound, self.instance_id)
            kept = sum(amount for amount, asked_window in others if asked_window < window)
            standing = Standing(limit, leased[place], kept)
            answer.amount = grant(standing, need.amount, gateways)
            answer.outage_amount = outage_amount(limit, gateways, sum(amount for amount, _ in others))
            await quota.hold(
                self.conn, self.instance_id, owner, bound, window=self.minute, outage_amount=answer.outage_amount
            )
        else:
            answer.amount = grant(Standing(limit, leased[place]), need.amount, gateways)
        if bound != QuotaSubject.BOUND_CONCURRENCY:
            leased[place] += answer.amount
        if answer.amount < need.amount:
            left = seconds_left(bound, self.limits[owner].budget_period, self.now)
            answer.retry_after.CopyFrom(Duration(seconds=max(1, math.ceil(left))))
        return answer

    async def _slots(self, owner: str, limit: int, asked: int) -> int:
        """Slots are leased one for one: what lies with a gateway unused is missing to another."""
        held = await quota.slots_held(self.conn, owner, QuotaSubject.BOUND_CONCURRENCY)
        amount = min(Standing(limit, sum(held.values())).free, asked)
        await quota.hold(
            self.conn,
            self.instance_id,
            owner,
            QuotaSubject.BOUND_CONCURRENCY,
            window=ENDLESS,
            slots=held.get(self.instance_id, 0) + amount,
        )
        return amount


def _subjects(request: LeaseQuotaRequest) -> list[QuotaSubject]:
    return [*(need.subject for need in request.needs), *(item.subject for item in request.settlements)]


async def _limits_of(conn: Connection, subjects: Sequence[QuotaSubject]) -> dict[str, Limits]:
    """The limits of every owner that exists and has some."""
    keys = await access.limits_of_keys(conn, {subject.key_id for subject in subjects if subject.key_id})
    found = {f"key:{key_id}": limits for key_id, limits in keys.items()}
    names = {subject.tenant for subject in subjects if subject.tenant}
    users = {subject.user for subject in subjects if subject.user}
    for tenant in await tenants.list_tenants(conn) if names or users else []:
        if tenant.name in names and tenant.HasField("limits"):
            found[f"tenant:{tenant.name}"] = tenant.limits
        if tenant.HasField("user_limits"):
            found |= {f"user:{user}": tenant.user_limits for user in users if user.split("/")[0] == tenant.name}
    return found
