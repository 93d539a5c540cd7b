"""The administrators' side of the coordinator: who may do what, which secrets there are, and what was done."""

from studio.v1.access_service_pb2_grpc import AccessServiceServicer

from studio_coordinator.rpc.audit import Audit
from studio_coordinator.rpc.identities import Identities
from studio_coordinator.rpc.operators import Operators
from studio_coordinator.rpc.secrets import Secrets


class AccessService(Operators, Identities, Secrets, Audit, AccessServiceServicer):
    """Each part is in a file of its own."""
