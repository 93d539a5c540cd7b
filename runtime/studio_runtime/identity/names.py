"""What a certificate says of its holder, as the one URI among its names: ``studio://agent/HOST_ID?generation=7``."""

from dataclasses import dataclass
from urllib.parse import parse_qs, quote, unquote, urlsplit

from studio.v1.identity_service_pb2 import Identity

SCHEME = "studio"


def kind_word(kind: Identity.Kind.ValueType) -> str:
    """``agent``, ``gateway``, ``console``."""
    return Identity.Kind.Name(kind).removeprefix("KIND_").lower()


KINDS = {kind_word(kind): kind for kind in Identity.Kind.values() if kind != Identity.KIND_UNSPECIFIED}


@dataclass(frozen=True)
class NodeName:
    """Who holds a certificate; ``generation`` rises with every renewal."""

    kind: Identity.Kind.ValueType
    id: str
    generation: int

    @property
    def uri(self) -> str:
        """As it stands in the certificate."""
        return f"{SCHEME}://{kind_word(self.kind)}/{quote(self.id, safe='')}?generation={self.generation}"

    @classmethod
    def parse(cls, uri: str) -> "NodeName | None":
        """The name that ``uri`` is; None where it is something else."""
        try:
            parts = urlsplit(uri)
            generation = int(parse_qs(parts.query)["generation"][0])
        except (ValueError, KeyError):
            return None
        node_id = unquote(parts.path.removeprefix("/"))
        if parts.scheme != SCHEME or parts.netloc not in KINDS or not node_id or generation < 1:
            return None
        return cls(KINDS[parts.netloc], node_id, generation)
