"""Addresses that a recipe or a provider may not point at: this machine, private networks, a cloud's metadata.

Whoever may write a URL could else have an engine or a gateway fetch what only machines inside may see. Hosts are judged as every
resolver reads them: ``127.1``, ``2130706433``, ``0x7f.1`` and ``::ffff:127.0.0.1`` are all this machine.
"""

import ipaddress
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s\"'<>]+", re.IGNORECASE)
# What is no address and yet always inside.
INSIDE_NAMES = ("localhost", "metadata", "metadata.google.internal", "instance-data")
INSIDE_SUFFIXES = (".localhost", ".local", ".internal", ".home.arpa", ".lan")
NUMBER = re.compile(r"0x[0-9a-f]+|\d+", re.IGNORECASE)
MOST_PARTS = 4


def urls_in(text: str) -> Iterator[str]:
    """Every URL in ``text``."""
    yield from (found.group() for found in URL.finditer(text))


def why_inside(url: str) -> str:
    """Why ``url`` points inside; "" where its host is a public address, or a name that only a resolver can tell."""
    try:
        host = (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return "it cannot be read"
    if not host:
        return "it names no host"
    address = address_of(host)
    if address is not None:
        return "" if is_public(address) else f"{host} is not a public address"
    if host in INSIDE_NAMES or host.endswith(INSIDE_SUFFIXES):
        return f"{host} is a name of an inner network"
    return ""


def is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether anybody may reach it: neither private, link-local, loopback, shared, multicast nor reserved."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and address in ipaddress.IPv6Network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
    return address.is_global and not address.is_multicast


def address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that ``host`` is, in any form that resolvers take; None where it is a name."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return _by_numbers(host)


def _by_numbers(host: str) -> ipaddress.IPv4Address | None:
    """As ``inet_aton`` reads it: one to four numbers, decimal, octal or hexadecimal, the last of which fills what is left."""
    parts = host.split(".")
    if len(parts) > MOST_PARTS or not all(NUMBER.fullmatch(part) for part in parts):
        return None
    try:
        numbers = [
            int(part, 16 if part[:2].lower() == "0x" else 8 if part[0] == "0" and part != "0" else 10) for part in parts
        ]
    except ValueError:
        return None
    *heads, last = numbers
    if any(head > 255 for head in heads) or last >= 256 ** (MOST_PARTS + 1 - len(numbers)):  # noqa: PLR2004 - a byte
        return None
    value = last
    for place, head in enumerate(heads):
        value += head << (8 * (MOST_PARTS - 1 - place))
    return ipaddress.IPv4Address(value)
