"""The values this agent knows, and how it comes to know them."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import grpc
import structlog
from studio.v1.agent_service_pb2 import GetSecretsRequest
from studio.v1.agent_service_pb2_grpc import AgentServiceStub
from studio.v1.recipe_pb2 import Recipe
from studio_runtime.errors import StudioError, UnavailableError, from_rpc_error
from studio_runtime.logging import hide

from studio_agent.latest import Latest
from studio_agent.link import Link

CALL_SECONDS = 10.0
RETRY_SECONDS = 2.0
# Which host asks, on a connection that does not prove it.
HOST_ID = "studio-host-id"

AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)

log = structlog.get_logger()


class SecretUnavailableError(StudioError):
    """The coordinator does not give a secret that the recipe names."""

    reason = "secret_unavailable"
    retryable = True


@dataclass(frozen=True)
class Wanted:
    """What one recipe needs, as names of stored secrets."""

    # By environment variable.
    environment: Mapping[str, str]
    # Of the hub, "" for none.
    token: str = ""

    @property
    def names(self) -> frozenset[str]:
        """All of them."""
        return frozenset({*self.environment.values(), self.token} - {""})


def wanted(recipe: Recipe) -> Wanted:
    """The secrets that ``recipe`` names."""
    return Wanted(dict(recipe.secrets), recipe.model.token_secret)


@dataclass
class SecretBox:
    """Asks over the open session."""

    link: Latest[Link | None]
    host_id: str
    _known: dict[str, str] = field(default_factory=dict, repr=False)

    async def obtain(self, names: frozenset[str], waiting: Callable[[str], None]) -> dict[str, str]:
        """The values of ``names``, as they are now; while no coordinator answers, as they were when last asked.

        What is not known then is waited for, and ``waiting`` told why. Raises SecretUnavailableError where it is refused.
        """
        while names:
            version = self.link.version
            try:
                await self._ask(names)
            except UnavailableError as error:
                if names <= self._known.keys():
                    break
                waiting(f"waits for the secret {', '.join(sorted(names - self._known.keys()))}: {error.message}")
                await self._until_changed(version)
            else:
                break
        return {name: self._known[name] for name in names}

    async def _ask(self, names: frozenset[str]) -> None:
        link = self.link.value
        if link is None:
            raise UnavailableError("no coordinator is connected")
        request = GetSecretsRequest(names=sorted(names))
        metadata = ((HOST_ID, self.host_id), *link.metadata)
        try:
            answer = await AgentServiceStub(link.channel).GetSecrets(request, timeout=CALL_SECONDS, metadata=metadata)
        except asyncio.CancelledError:
            # The session's channel was closed under the call; a task that is to end is told so again.
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            raise UnavailableError("the session has just ended") from None
        except grpc.aio.AioRpcError as error:
            if error.code() in AWAY:
                raise UnavailableError("the coordinator does not answer") from None
            refused = from_rpc_error(error, "ask for secrets")
            raise SecretUnavailableError(f"the coordinator gives no secret: {refused.message}", refused.hint) from None
        for value in answer.values.values():
            hide(value)
        self._known.update(answer.values)
        log.info("secrets_received", names=sorted(names))

    async def _until_changed(self, version: int) -> None:
        """Return with the next news of the session, or after a while."""
        try:
            async with asyncio.timeout(RETRY_SECONDS):
                await self.link.newer_than(version)
        except TimeoutError:
            return
