"""A bearer token in a file: what goes with each call where no certificate says who calls."""

from dataclasses import dataclass
from pathlib import Path

from studio_runtime.errors import UnauthenticatedError

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Bearer:
    """Read anew for each call, so that a new token needs no restart; without a file there is no token."""

    file: Path | None = None

    def metadata(self) -> Metadata:
        """As gRPC metadata. Raises UnauthenticatedError where the file cannot be read, or holds nothing that could be sent."""
        if self.file is None:
            return ()
        try:
            token = self.file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it holds more than ASCII"
            raise UnauthenticatedError(
                f"the token file {self.file} cannot be read: {reason}",
                "It holds one token, readable to this user alone.",
            ) from None
        if not token or any(character.isspace() for character in token):
            raise UnauthenticatedError(f"the token file {self.file} does not hold one token")
        return (("authorization", f"Bearer {token}"),)
