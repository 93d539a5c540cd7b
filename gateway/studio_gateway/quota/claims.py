"""What a request may use at most, of which bounds ★.

A token of text is at least one byte of it, so a prompt has at most as many tokens as its body has bytes, and the chat template
adds some to each message. An answer is as long as the greatest of the lengths that its body gives, once for each prompt in it and
each answer to that. Pictures and sounds are more than their text: for each of them a flat amount is reserved, and what is
used beyond it is taken from what comes next.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from studio.v1.route_pb2 import Limits, Price
from studio.v1.route_service_pb2 import QuotaSubject

from studio_gateway.call import Call
from studio_gateway.keys import Key, KeyRing
from studio_gateway.openai_errors import invalid_body, larger_than_limit
from studio_gateway.usage import Usage

# A template's marks round one message, and round the whole.
TOKENS_PER_MESSAGE = 32
TOKENS_PER_REQUEST = 256
TOKENS_PER_ATTACHMENT = 16_384
ATTACHMENTS = (b'"image_url"', b'"input_image"', b'"input_audio"', b'"audio_url"', b'"video_url"', b'"file"')
# Of an answer whose length the client leaves open.
OPEN_COMPLETION_TOKENS = 8_192
LENGTHS = ("max_completion_tokens", "max_tokens", "max_output_tokens", "n_predict")
# Those that engines look at; without any of them an answer's length is open, whatever else the body says.
OWN_LENGTHS = {
    "/v1/chat/completions": ("max_completion_tokens", "max_tokens"),
    "/v1/chat/completions/batch": ("max_completion_tokens", "max_tokens"),
    "/v1/completions": ("max_tokens",),
    "/v1/messages": ("max_tokens",),
    "/v1/responses": ("max_output_tokens",),
}
COUNTS = ("n", "best_of")
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
    # What its answers may cost by the length that it asks for itself; 0 where it leaves that open.
    asked_tokens: int = 0
    asked_micros: int = 0

    @property
    def tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt + self.completion


def most_of(call: Call, prices: Sequence[Price]) -> Most:
    """What ``call`` can use at most, at the dearest of ``prices``. Raises ApiError where the body does not say it in numbers."""
    document = call.document
    attachments = sum(call.body.count(mark) for mark in ATTACHMENTS)
    marks = TOKENS_PER_REQUEST + _messages(document) * TOKENS_PER_MESSAGE
    prompt = len(call.body) + marks + attachments * TOKENS_PER_ATTACHMENT
    length, is_asked = _length(call.path, document)
    completion = length * _answers(document) * _prompts(document)
    return Most(
        prompt,
        completion,
        max((cost(price, Usage(prompt, completion)) for price in prices), default=0),
        completion if is_asked else 0,
        max((cost(price, Usage(0, completion)) for price in prices), default=0) if is_asked else 0,
    )


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


def claims_for(ring: KeyRing, key: Key, models: Sequence[str], call: Call) -> list[Claim]:
    """What ``call`` claims of its key's, its user's and its tenant's bounds, whichever of ``models`` answers; raises ApiError.

    Nothing where none of them has any.
    """
    of_tenant = ring.tenant_limits.get(key.tenant)
    of_user = ring.user_limits.get(key.tenant) if key.user else None
    if key.limits is None and of_user is None and of_tenant is None:
        return []
    most = most_of(call, [ring.prices[name] for name in models if name in ring.prices])
    claims = claims_of(f"key:{key.id}", key.limits, most) if key.limits is not None else []
    if of_user is not None:
        claims += claims_of(f"user:{key.tenant}/{key.user}", of_user, most)
    if of_tenant is not None:
        claims += claims_of(f"tenant:{key.tenant}", of_tenant, most)
    return claims


def claims_of(owner: str, limits: Limits, most: Most) -> list[Claim]:
    """What a request claims of the bounds that ``owner`` has. Raises ApiError where it asks for more than a whole bound.

    What is only an estimate, a prompt and an answer of open length, is claimed up to the bound: alone, such a request may pass.
    """
    claims = []
    for name, bound, amount, asked in (
        ("requests_per_minute", QuotaSubject.BOUND_REQUESTS_PER_MINUTE, 1, 0),
        ("tokens_per_minute", QuotaSubject.BOUND_TOKENS_PER_MINUTE, most.tokens, most.asked_tokens),
        ("concurrency", QuotaSubject.BOUND_CONCURRENCY, 1, 0),
        ("token_budget", QuotaSubject.BOUND_TOKEN_BUDGET, most.tokens, most.asked_tokens),
        ("money_budget_micros", QuotaSubject.BOUND_MONEY_BUDGET, most.micros, most.asked_micros),
    ):
        if not limits.HasField(name):  # type: ignore[arg-type] # the names above are fields, which the stubs list one by one
            continue
        limit: int = getattr(limits, name)
        # A bound of nothing is used up, whatever is asked.
        if asked > limit > 0:
            raise larger_than_limit(name.removesuffix("_micros").replace("_", " "), limit, asked)
        claims.append(Claim(Bound(owner, bound), limit, min(amount, limit), limits.budget_period))
    return claims


def _prompts(document: Mapping[str, object]) -> int:
    """How many prompts one body holds, each of which is answered: a list of texts or of lists of tokens, a batch of chats."""
    chats, prompts, embedded = document.get("messages"), document.get("prompt"), document.get("prompt_embeds")
    count = sum(isinstance(one, list) for one in chats) if isinstance(chats, list) else 0
    if isinstance(prompts, list):
        # A list of numbers is one prompt in tokens.
        count += sum(not isinstance(one, int) for one in prompts)
    if isinstance(embedded, list):
        count += len(embedded)
    return max(1, count)


def _messages(document: Mapping[str, object]) -> int:
    messages = document.get("messages")
    if not isinstance(messages, list):
        return 1
    return sum(len(one) if isinstance(one, list) else 1 for one in messages)


def _length(path: str, document: Mapping[str, object]) -> tuple[int, bool]:
    """The longest that one answer can get, and whether the body itself says so. Raises ApiError."""
    lengths = {name: given for name in LENGTHS if (given := _whole_number(document, name)) is not None}
    own = OWN_LENGTHS.get(path, LENGTHS)
    # A negative one is what some engines take for none.
    is_open = not any(lengths.get(name, -1) >= 0 for name in own)
    return max(*lengths.values(), OPEN_COMPLETION_TOKENS if is_open else 0, 0), not is_open


def _answers(document: Mapping[str, object]) -> int:
    """How many answers each prompt gets. Raises ApiError."""
    return max(1, *(_whole_number(document, name) or 1 for name in COUNTS))


def _whole_number(document: Mapping[str, object], name: str) -> int | None:
    """What ``name`` says, None where it says nothing. Engines read "100" and 100.0 as numbers too: here they are refused."""
    given = document.get(name)
    if given is None:
        return None
    if type(given) is not int:
        raise invalid_body(f"{name!r} has to be a whole number.", name)
    return min(given, MOST_TOKENS)
