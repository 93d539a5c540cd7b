"""Renewal: at two thirds of the certificate's life, when the authorities change, and again until it is done.

::

                 two thirds of its life, or authorities changed
    WAITING ──────────────────────────────────────────────────► RENEWING ──done──► WAITING
       ▲                                                            │
       └───────── later, a little longer each time ◄──refused, away─┘

A certificate that has run out is renewed in the same way: the coordinator looks at the proof, and at how long ago it ran out.
Several processes may share the folder (workers of one gateway): one of them renews, the others find it done.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import grpc
import structlog
from cryptography.hazmat.primitives.serialization import Encoding
from studio.v1.identity_service_pb2 import AuthoritiesInForce, Certificate, RenewRequest
from studio.v1.identity_service_pb2_grpc import IdentityServiceStub

from studio_runtime.channel import open_channel
from studio_runtime.errors import StudioError, UnavailableError, from_rpc_error
from studio_runtime.identity.folder import IdentityFolder
from studio_runtime.identity.join import CALL_SECONDS, request_for
from studio_runtime.identity.proof import make_proof
from studio_runtime.identity.stored import StoredIdentity, parse_key
from studio_runtime.process import lock_folder
from studio_runtime.tls import ClientTls

log = structlog.get_logger()

Uniform = Callable[[float, float], float]

# Of the certificate's life: the mean, and how far a node is drawn from it, so that a fleet which joined together parts.
RENEWAL_SHARE = 2 / 3
SHARE_SPREAD = 0.05
# Within so long all nodes of a fleet take up a change of authorities.
CHANGE_SPREAD_SECONDS = 5.0
FIRST_RETRY_SECONDS = 1.0
LONGEST_RETRY_SECONDS = 300.0
# Of its life a certificate that was just got is not due again, however a clock that is wrong may see it.
REST_SHARE = 0.05
# A clock that was set, or a machine that slept, is noticed within so long.
LONGEST_SLEEP_SECONDS = 60.0


def due_at(identity: StoredIdentity, uniform: Uniform) -> datetime:
    """When to renew: at two thirds of the certificate's life, a little earlier or later."""
    share = RENEWAL_SHARE + uniform(-SHARE_SPREAD, SHARE_SPREAD)
    return identity.not_before + (identity.not_after - identity.not_before) * share


def is_behind(identity: StoredIdentity, in_force: AuthoritiesInForce) -> bool:
    """Whether ``identity`` trusts other authorities than those in force, or was signed by another one than signs now."""
    return identity.trusted != frozenset(in_force.trusted) or identity.signed_by != in_force.signing


def retry_seconds(failures: int, uniform: Uniform) -> float:
    """How long to wait after so many failures in a row: full jitter over twice as long each time."""
    return uniform(0.0, min(LONGEST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2.0 ** min(failures, 16)))


@dataclass
class Renewal:
    """Keeps the identity in ``folder`` good; ``uniform`` draws from a range (``random.uniform``)."""

    folder: IdentityFolder
    uniform: Uniform

    def __post_init__(self) -> None:
        self._in_force: AuthoritiesInForce | None = None
        self._heard = asyncio.Event()

    def hear(self, in_force: AuthoritiesInForce) -> None:
        """What the coordinator says of its authorities; a change is taken up within CHANGE_SPREAD_SECONDS."""
        self._in_force = in_force
        self._heard.set()

    async def run(self) -> None:
        """Renew whenever it is due, until cancelled."""
        failures, rest = 0, timedelta()
        while True:
            try:
                identity = await asyncio.to_thread(self.folder.load)
                await self._until_due(identity, rest)
                heard = self._in_force
                if renewed := await self.renew_once(identity):
                    log.info("identity_renewed", generation=renewed.name.generation, until=str(renewed.not_after))
                if self._in_force is heard:
                    # Overtaken now; what it said meanwhile is looked at anew.
                    self._in_force = None
                failures = 0
                rest = (identity.not_after - identity.not_before) * REST_SHARE
            except (StudioError, OSError) as error:
                failures += 1
                log.warning("identity_not_renewed", reason=str(error))
                await asyncio.sleep(retry_seconds(failures, self.uniform))

    async def _until_due(self, identity: StoredIdentity, rest: timedelta) -> None:
        """Return when ``identity`` is to be renewed; by its age alone not before ``rest`` is over."""
        due = max(due_at(identity, self.uniform), datetime.now(UTC) + rest)
        while (left := (due - datetime.now(UTC)).total_seconds()) > 0:
            if self._in_force is not None and is_behind(identity, self._in_force):
                await asyncio.sleep(self.uniform(0.0, CHANGE_SPREAD_SECONDS))
                return
            self._heard.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, LONGEST_SLEEP_SECONDS)):
                    await self._heard.wait()

    async def renew_once(self, seen: StoredIdentity) -> StoredIdentity | None:
        """Renew, unless another process of this node has done so since ``seen`` was read. Raises StudioError.

        None where it had; UnavailableError where another is about to.
        """
        try:
            lock = await asyncio.to_thread(lock_folder, self.folder.root, ".renewing")
        except BlockingIOError:
            raise UnavailableError("another process of this node is renewing it") from None
        with lock:
            identity = await asyncio.to_thread(self.folder.load)
            if identity.name.generation != seen.name.generation:
                return None
            certificate = await self._ask(identity)
            await asyncio.to_thread(self.folder.take, certificate)
            return await asyncio.to_thread(self.folder.load)

    async def _ask(self, identity: StoredIdentity) -> Certificate:
        request = await asyncio.to_thread(self._request, identity)
        failure: StudioError = UnavailableError("no coordinator is known", "Join again with a new token.")
        for address in self.folder.coordinators():
            async with open_channel(address, ClientTls(identity.authorities)) as channel:
                try:
                    return (await IdentityServiceStub(channel).Renew(request, timeout=CALL_SECONDS)).certificate
                except grpc.aio.AioRpcError as error:
                    failure = from_rpc_error(error, f"renew at {address}")
                    if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                        break
        raise failure

    def _request(self, identity: StoredIdentity) -> RenewRequest:
        csr = request_for(parse_key(self.folder.next_key()))
        return RenewRequest(
            csr=csr,
            generation=identity.name.generation,
            certificate=identity.chain[0].public_bytes(Encoding.DER),
            proof=make_proof(identity.key, csr),
        )
