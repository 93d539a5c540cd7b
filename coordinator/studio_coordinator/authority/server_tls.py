"""The coordinator's own certificate: made at the start, renewed and swapped while it serves, never stored.

Open connections are not touched: a new certificate, or a new set of trusted authorities, counts from the next handshake on.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import structlog
from cryptography.hazmat.primitives.asymmetric import ec
from studio_runtime.errors import StudioError
from studio_runtime.identity.stored import key_pem

from studio_coordinator.authority.certificates import server_certificate
from studio_coordinator.authority.office import AuthorityOffice

log = structlog.get_logger()

RENEWAL_SHARE = 2 / 3


class SwappableCredentials:
    """Credentials of one port; gRPC asks for them before each handshake, from threads of its own."""

    def __init__(self, first: grpc.ServerCertificateConfiguration, *, asks_for_certificates: bool) -> None:
        self._next: grpc.ServerCertificateConfiguration | None = None
        # The stubs do not know that None is an answer.
        fetch: Any = self._fetch
        self.credentials = grpc.dynamic_ssl_server_credentials(first, fetch, asks_for_certificates)

    def swap(self, following: grpc.ServerCertificateConfiguration) -> None:
        """Use ``following`` from the next handshake on."""
        self._next = following

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """What is new since the last handshake; None: nothing is."""
        following, self._next = self._next, None
        return following


@dataclass
class ServerTls:
    """Serves as ``hosts`` (names and IP addresses) on two ports: one asks nodes for certificates, one asks nobody."""

    office: AuthorityOffice
    hosts: Iterable[str]
    lifetime: timedelta

    def __post_init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        configuration = self._configuration()
        self.nodes = SwappableCredentials(configuration, asks_for_certificates=True)
        self.operators = SwappableCredentials(configuration, asks_for_certificates=False)

    async def run(self) -> None:
        """Renew at two thirds of the certificate's life and whenever the authorities change, until cancelled."""
        while True:
            ticket = self.office.changed.ticket()
            with suppress(TimeoutError):
                async with asyncio.timeout(self.lifetime.total_seconds() * RENEWAL_SHARE):
                    await ticket.wait()
            try:
                configuration = self._configuration()
            except StudioError as error:
                log.warning("server_certificate_not_renewed", reason=error.message)
                continue
            self.nodes.swap(configuration)
            self.operators.swap(configuration)
            log.info("server_certificate_renewed", signed_by=self.office.keyring.signing.fingerprint)

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        keyring = self.office.keyring
        chain = server_certificate(
            keyring.signing, self.hosts, self._key.public_key(), datetime.now(UTC), self.lifetime
        )
        return grpc.ssl_server_certificate_configuration([(key_pem(self._key), chain)], keyring.bundle)
