"""IdentityService: certificates for nodes, without or with a certificate of their own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from studio.v1.identity_service_pb2 import JoinRequest, JoinResponse, RenewRequest, RenewResponse
from studio.v1.identity_service_pb2_grpc import IdentityServiceServicer
from studio_runtime.errors import InvalidError, OverloadedError, StudioError
from studio_runtime.identity.join_token import JoinTokenText

from studio_coordinator.access.caller import Caller
from studio_coordinator.access.journal import Draft, Journal
from studio_coordinator.authority.enrolment import Enrolment
from studio_coordinator.rpc.guard import guarded
from studio_coordinator.rpc.peer import Context

# Whoever calls needs no more than a connection: so many at once, and no more may wait.
SERVED = 16
WAITING = 2000
LONGEST_NAME = 253


class IdentityService(IdentityServiceServicer):
    """Open to everybody who reaches the port: the token, or the proof, is what counts."""

    def __init__(self, enrolment: Enrolment, journal: Journal) -> None:
        self._enrolment = enrolment
        self._journal = journal
        self._turn = asyncio.Semaphore(SERVED)
        self._waiting = 0

    @guarded
    async def Join(self, request: JoinRequest, context: Context) -> JoinResponse:  # noqa: N802 - the contract's name
        """Give the first certificate for a join token. Who is refused is in the audit log, as far as that may grow."""
        async with self._in_turn():
            try:
                return JoinResponse(certificate=await self._enrolment.join(request, context.peer()))
            except StudioError as error:
                if not error.retryable:
                    await self._journal.close(_refused(request, context.peer()), error.code.name)
                raise

    @guarded
    async def Renew(self, request: RenewRequest, context: Context) -> RenewResponse:  # noqa: N802 - the contract's name
        """Give the next certificate for the one before."""
        async with self._in_turn():
            return RenewResponse(certificate=await self._enrolment.renew(request, context.peer()))

    @asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[None]:
        if self._waiting >= WAITING:
            raise OverloadedError("too many nodes ask for certificates at once", "They try again by themselves.")
        self._waiting += 1
        try:
            async with self._turn:
                yield
        finally:
            self._waiting -= 1


def _refused(request: JoinRequest, peer: str) -> Draft:
    """For the log: which token was shown, without its secret, and by whom, so far as a stranger can be believed."""
    try:
        objects = [f"JoinToken/{JoinTokenText.parse(request.token).id}"]
    except InvalidError:
        objects = []
    said = JoinRequest(host_name=request.host_name[:LONGEST_NAME])
    return Draft(Caller(peer=peer), "IdentityService/Join", objects, said)
