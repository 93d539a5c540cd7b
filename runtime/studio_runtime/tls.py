"""TLS of a client: whom it trusts, and, where it has an identity of its own, the certificate that proves it."""

from dataclasses import dataclass, field
from pathlib import Path

import grpc

from studio_runtime.errors import InvalidError


@dataclass(frozen=True)
class ClientTls:
    """What a channel needs; all of it PEM."""

    # Every authority that is trusted now.
    authorities: bytes
    # The client's own certificate and those between it and the authority; empty: it proves nothing by TLS.
    chain: bytes = b""
    key: bytes = field(default=b"", repr=False)

    @classmethod
    def trusting(cls, ca_file: Path) -> "ClientTls":
        """Trust what ``ca_file`` (PEM) holds and prove nothing. Raises InvalidError where it holds no certificate."""
        from studio_runtime.certificates import certificates  # noqa: PLC0415 - 15 MB, which plain channels do not need

        try:
            content = ca_file.read_bytes()
            certificates(content)
        except (OSError, ValueError) as error:
            raise InvalidError(
                f"the CA file {ca_file} cannot be used: {error}",
                "It is the PEM that `studio authority show --pem` prints on a console that is connected already.",
            ) from None
        return cls(content)

    def credentials(self) -> grpc.ChannelCredentials:
        """The same for gRPC."""
        return grpc.ssl_channel_credentials(self.authorities, self.key or None, self.chain or None)
