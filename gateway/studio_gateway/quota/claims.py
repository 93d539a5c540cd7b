"""What a request may use at most, of which bounds ★.

A token of text is at least one byte of it, so a prompt has at most as many tokens as its body has bytes, and the chat template
adds some to each message. Pictures and sounds are more than their text: for each of them a flat amount is reserved, and what is
used beyond it is taken from what comes next.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from studio.v1.route_pb2 import Limits, Price
from studio.v1.route_service_pb2 import QuotaSubject

from studio_gateway.call import Call
from studio_gateway.keys import Key, KeyRing
from studio_gateway.usage import Usage

# A template's marks round one message, and round the whole.
TOKENS_PER_MESSAGE = 32
TOKENS_PER_REQUEST = 256
TOKENS_PER_ATTACHMENT = 16_384
ATTACHMENTS = (b'"image_url"', b'"input_image"', b'"input_audio"', b'"audio_url"', b'"video_url"', b'"file"')
# Of an answer whose length the client leaves open.
OPEN_COMPLETION_TOKENS = 8_192
LENGTHS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
MOST_TOKENS = 10**9
PER = 1_000_000


@dataclass(frozen=True, slots=True)
class Bound:
    """One bound, as the key of what is held of it. ``owner`` is ``key:ID``, ``tenant:NAME`` or ``user:TENANT/NAME``."""

    owner: str
    bound: QuotaSubject.Bound.ValueType

    def subject(self) -> QuotaSubject:
        """The same as the contract says it."""
        kind, _, name = self.owner.partition(":")
        if kind == "key":
            return QuotaSubject(key_id=name, bound=self.bound)
        if kind == "user":
            return QuotaSubject(user=name, bound=self.bound)
        return QuotaSubject(tenant=name, bound=self.bound)


@dataclass(frozen=True, slots=True)
class Claim:
    """So many units of a bound whose size is ``limit``; of budgets, in which period."""

    bound: Bound
    limit: int
    amount: int
    period: Limits.Period.ValueType


@dataclass(frozen=True, slots=True)
class Most:
    """The most that a request can use, in tokens and millionths of the currency."""

    prompt: int
    completion: int
    micros: int

    @property
    def tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt + self.completion


def most_of(call: Call, price: Price | None) -> Most:
    """What ``call`` can use at most."""
    document = call.document
    messages = document.get("messages")
    count = len(messages) if isinstance(messages, list) else 1
    attachments = sum(call.body.count(mark) for mark in ATTACHMENTS)
    prompt = len(call.body) + TOKENS_PER_REQUEST + count * TOKENS_PER_MESSAGE + attachments * TOKENS_PER_ATTACHMENT
    completion = _completion(document)
    return Most(prompt, completion, cost(price, Usage(prompt, completion)))


def cost(price: Price | None, usage: Usage) -> int:
    """In millionths of the currency, rounded up; 0 without a price. As the coordinator reckons it."""
    if price is None:
        return 0
    cached = min(usage.cached, usage.prompt)
    cached_micros = price.cached_micros if price.HasField("cached_micros") else price.prompt_micros
    total = (
        (usage.prompt - cached) * price.prompt_micros
        + cached * cached_micros
        + usage.completion * price.completion_micros
    )
    return -(-total // PER)


def claims_for(ring: KeyRing, key: Key, model: str, call: Call) -> list[Claim]:
    """What ``call`` to ``model`` claims of its key's, its user's and its tenant's bounds; nothing where none has any."""
    of_tenant = ring.tenant_limits.get(key.tenant)
    of_user = ring.user_limits.get(key.tenant) if key.user else None
    if key.limits is None and of_user is None and of_tenant is None:
        return []
    most = most_of(call, ring.prices.get(model))
    claims = list(claims_of(f"key:{key.id}", key.limits, most)) if key.limits is not None else []
    if of_user is not None:
        claims += claims_of(f"user:{key.tenant}/{key.user}", of_user, most)
    if of_tenant is not None:
        claims += claims_of(f"tenant:{key.tenant}", of_tenant, most)
    return claims


def claims_of(owner: str, limits: Limits, most: Most) -> Iterator[Claim]:
    """What a request claims of the bounds that ``owner`` has. A claim is never above its bound: alone, every request may pass."""
    for name, bound, amount in (
        ("requests_per_minute", QuotaSubject.BOUND_REQUESTS_PER_MINUTE, 1),
        ("tokens_per_minute", QuotaSubject.BOUND_TOKENS_PER_MINUTE, most.tokens),
        ("concurrency", QuotaSubject.BOUND_CONCURRENCY, 1),
        ("token_budget", QuotaSubject.BOUND_TOKEN_BUDGET, most.tokens),
        ("money_budget_micros", QuotaSubject.BOUND_MONEY_BUDGET, most.micros),
    ):
        if limits.HasField(name):  # type: ignore[arg-type] # the names above are fields, which the stubs list one by one
            limit: int = getattr(limits, name)
            yield Claim(Bound(owner, bound), limit, min(amount, limit), limits.budget_period)


def _completion(document: Mapping[str, object]) -> int:
    length = OPEN_COMPLETION_TOKENS
    for name in LENGTHS:
        given = document.get(name)
        if type(given) is int and 0 <= given <= MOST_TOKENS:
            length = given
            break
    answers = [
        given for name in ("n", "best_of") if type(given := document.get(name)) is int and 1 <= given <= MOST_TOKENS
    ]
    return length * max(answers, default=1)
