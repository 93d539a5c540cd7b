"""AccessService: join tokens, identities of nodes, authorities."""

from studio.v1.access_service_pb2 import (
    CreateJoinTokenRequest,
    CreateJoinTokenResponse,
    GetAuthorityRequest,
    GetAuthorityResponse,
    ListIdentitiesRequest,
    ListIdentitiesResponse,
    ListJoinTokensRequest,
    ListJoinTokensResponse,
    RevokeIdentityRequest,
    RevokeIdentityResponse,
    RevokeJoinTokenRequest,
    RevokeJoinTokenResponse,
    RotateAuthorityRequest,
    RotateAuthorityResponse,
)
from studio_runtime.errors import SafetyError

from studio_coordinator.authority.enrolment import LONGEST_TOKEN_LIFE
from studio_coordinator.authority.fleet_identity import FleetIdentity
from studio_coordinator.rpc.guard import actor_of, guarded
from studio_coordinator.rpc.peer import Context
from studio_coordinator.rpc.state import AdminState
from studio_coordinator.store import identities, join_tokens


class Identities(AdminState):
    """Who may join, who has, and who signs for them."""

    @guarded
    async def CreateJoinToken(  # noqa: N802 - the contract's name
        self, request: CreateJoinTokenRequest, context: Context
    ) -> CreateJoinTokenResponse:
        """Make a token that lets one node join. Its text is in this answer and nowhere else."""
        desk = self._desk()
        lifetime = request.lifetime.ToTimedelta() if request.HasField("lifetime") else LONGEST_TOKEN_LIFE
        token, text = await desk.enrolment.make_token(request.kind, request.name, lifetime, actor_of(context))
        signing = desk.enrolment.office.keyring.signing.fingerprint
        return CreateJoinTokenResponse(token=token, secret=str(text), authority_fingerprint=signing)

    @guarded
    async def ListJoinTokens(  # noqa: N802 - the contract's name
        self, _request: ListJoinTokensRequest, _context: Context
    ) -> ListJoinTokensResponse:
        """Tokens without their secrets, the newest first."""
        async with self._desk().enrolment.database.transaction() as conn:
            return ListJoinTokensResponse(tokens=await join_tokens.list_tokens(conn))

    @guarded
    async def RevokeJoinToken(  # noqa: N802 - the contract's name
        self, request: RevokeJoinTokenRequest, _context: Context
    ) -> RevokeJoinTokenResponse:
        """Take back a token that was not used."""
        async with self._desk().enrolment.database.transaction() as conn:
            await join_tokens.revoke(conn, request.id)
        return RevokeJoinTokenResponse()

    @guarded
    async def ListIdentities(  # noqa: N802 - the contract's name
        self, _request: ListIdentitiesRequest, _context: Context
    ) -> ListIdentitiesResponse:
        """All identities, refused ones as well."""
        async with self._desk().enrolment.database.transaction() as conn:
            rows = await identities.list_identities(conn)
        return ListIdentitiesResponse(identities=[row.identity for row in rows])

    @guarded
    async def RevokeIdentity(  # noqa: N802 - the contract's name
        self, request: RevokeIdentityRequest, context: Context
    ) -> RevokeIdentityResponse:
        """Refuse a node from now on; its streams end at once."""
        desk = self._desk()
        identity = await desk.enrolment.revoke(request.identity, request.reason, actor_of(context))
        desk.streams.cut(identity.id, identity.locked_reason)
        return RevokeIdentityResponse(identity=identity)

    @guarded
    async def GetAuthority(  # noqa: N802 - the contract's name
        self, _request: GetAuthorityRequest, _context: Context
    ) -> GetAuthorityResponse:
        """Who signs certificates and who is trusted, without keys."""
        return GetAuthorityResponse(authorities=await self._desk().enrolment.office.listed())

    @guarded
    async def RotateAuthority(  # noqa: N802 - the contract's name
        self, request: RotateAuthorityRequest, context: Context
    ) -> RotateAuthorityResponse:
        """One step from the present authority to the next."""
        office = self._desk().enrolment.office
        message = await office.rotate(force=request.force, actor=actor_of(context))
        return RotateAuthorityResponse(authorities=await office.listed(), message=message)

    def _desk(self) -> FleetIdentity:
        if self.fleet_identity is None:
            raise SafetyError(
                "this coordinator serves without TLS: nodes need no identities, and it gives none",
                "Start it with --tls; see docs/identities.md.",
            )
        return self.fleet_identity
