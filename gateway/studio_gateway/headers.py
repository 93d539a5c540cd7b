"""Which headers go on, in either direction ★. Names are lower case, as the ASGI server gives them."""

import re
from collections.abc import Iterable

RawHeaders = Iterable[tuple[bytes, bytes]]

# They belong to one connection (RFC 9110, 7.6.1).
HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
# What the gateway says itself, and what an engine has no business with. Without accept-encoding the answer comes plain, so that
# its usage can be read.
KEPT_FROM_ENGINE = HOP_BY_HOP | {
    b"accept-encoding",
    b"authorization",
    b"content-length",
    b"cookie",
    b"expect",
    b"forwarded",
    b"host",
    b"traceparent",
    b"x-api-key",
    b"x-request-id",
    b"x-studio-model",
}
# Who runs behind the gateway, and where.
KEPT_FROM_CLIENT = HOP_BY_HOP | {
    b"date",
    b"server",
    b"set-cookie",
    b"location",
    b"via",
    b"alt-svc",
    b"x-powered-by",
    b"x-request-id",
}
INTERNAL_PREFIXES = (b"x-litellm-", b"x-forwarded-", b"llm_provider-")

REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


def for_engine(headers: RawHeaders) -> list[tuple[str, str]]:
    """What an engine is sent of a client's headers, before the gateway adds its own."""
    named = _named_by_connection(headers)
    return [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in headers
        if name not in KEPT_FROM_ENGINE and name not in named and not name.startswith(INTERNAL_PREFIXES)
    ]


def for_client(headers: RawHeaders) -> list[tuple[bytes, bytes]]:
    """What a client is sent of an engine's headers, names in lower case, before the gateway adds its own."""
    lowered = [(name.lower(), value) for name, value in headers]
    named = _named_by_connection(lowered)
    return [
        (name, value)
        for name, value in lowered
        if name not in KEPT_FROM_CLIENT and name not in named and not name.startswith(INTERNAL_PREFIXES)
    ]


def first(headers: RawHeaders, name: bytes) -> str:
    """The first value of ``name``; empty where there is none."""
    for key, value in headers:
        if key == name:
            return value.decode("latin-1")
    return ""


def request_id_of(headers: RawHeaders) -> str:
    """The client's ``x-request-id`` where it is one that can be passed on and logged; else empty."""
    given = first(headers, b"x-request-id")
    return given if REQUEST_ID.fullmatch(given) else ""


def _named_by_connection(headers: RawHeaders) -> frozenset[bytes]:
    """Further headers that ``connection`` declares to be of this connection only."""
    named = [value for name, value in headers if name == b"connection"]
    if not named:
        return frozenset()
    return frozenset(token.strip().lower() for value in named for token in value.split(b","))
