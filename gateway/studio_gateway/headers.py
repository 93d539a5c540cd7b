"""Which headers go on, in either direction ★. Names are lower case."""

import re
from collections.abc import Iterable, Mapping

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
    b"x-studio-session",
}
# Who runs behind the gateway, and where.
KEPT_FROM_CLIENT = HOP_BY_HOP | {
    b"content-length",
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

REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")


def for_engine(headers: RawHeaders, connection: bytes | None) -> list[tuple[bytes, bytes]]:
    """What an engine is sent of a client's headers, before the gateway adds its own; ``connection``: the field of that name."""
    kept = [
        header
        for header in headers
        if header[0] not in KEPT_FROM_ENGINE and not header[0].startswith(INTERNAL_PREFIXES)
    ]
    return _without_named(kept, connection)


def for_client(headers: RawHeaders, connection: bytes | None) -> list[tuple[bytes, bytes]]:
    """What a client is sent of an engine's headers, before the gateway adds its own."""
    kept = [
        header
        for header in headers
        if header[0] not in KEPT_FROM_CLIENT and not header[0].startswith(INTERNAL_PREFIXES)
    ]
    return _without_named(kept, connection)


def request_id_of(by_name: Mapping[bytes, bytes]) -> str:
    """The client's ``x-request-id`` where it is one that can be passed on and logged; else empty."""
    given = by_name.get(b"x-request-id")
    return given.decode("ascii") if given is not None and REQUEST_ID.fullmatch(given) else ""


def _without_named(headers: list[tuple[bytes, bytes]], connection: bytes | None) -> list[tuple[bytes, bytes]]:
    """Without further headers that ``connection`` declares to be of one connection only."""
    if connection is None or connection in (b"keep-alive", b"close"):
        return headers
    named = {token.strip().lower() for token in connection.split(b",")}
    return [header for header in headers if header[0] not in named]
