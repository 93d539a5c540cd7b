"""AdminService, one-shot operations on a host: handed to its agent, and followed over as many sessions as it takes."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import grpc
from studio.v1.admin_service_pb2 import RunCommandRequest, RunCommandResponse
from studio.v1.agent_service_pb2 import Command, CommandProgress, CommandResult
from studio.v1.event_pb2 import Event
from studio.v1.host_pb2 import Host
from studio_runtime.errors import InvalidError, NotFoundError, SafetyError, StudioError, UnavailableError

from studio_coordinator.rpc.guard import actor_of, refuse
from studio_coordinator.rpc.state import AdminState
from studio_coordinator.sessions import Session
from studio_coordinator.store import events, hosts
from studio_coordinator.wakeup import wait_for

Context = grpc.aio.ServicerContext[Any, Any]

FEATURE = "commands"
# As long as agents remember results: one that is sent again later would be done again.
DEADLINE = timedelta(hours=24)
# How long a host may be away in the middle of a command.
ABSENCE_SECONDS = 60.0


class Commands(AdminState):
    """Calls that have a host do something."""

    async def RunCommand(  # noqa: N802 - the contract's name
        self, request: RunCommandRequest, context: Context
    ) -> AsyncIterator[RunCommandResponse]:
        """Have a host do something once. A caller that hangs up does not stop it."""
        try:
            self.leadership.require()
            host = await self._asked(request, actor_of(context))
            command = Command()
            command.CopyFrom(request.command)
            command.command_id = uuid4().hex
            command.term = self.leadership.term
            command.deadline.FromDatetime(datetime.now(UTC) + DEADLINE)
            async for said in self._followed(host, command):
                if isinstance(said, CommandResult):
                    yield RunCommandResponse(result=said)
                else:
                    yield RunCommandResponse(progress=said)
        except StudioError as error:
            await refuse(context, error)

    async def _asked(self, request: RunCommandRequest, actor: str) -> Host:
        """The host that is meant, once it is written down who asked for what."""
        operation = request.command.WhichOneof("operation")
        if operation is None:
            raise InvalidError("the command names no operation")
        async with self.database.transaction() as conn:
            found = [one for one in await hosts.list_hosts(conn) if request.host in (one.id, one.name)]
            if not found:
                raise NotFoundError(f"there is no host {request.host!r}", "See studio hosts.")
            host = found[0]
            # Raises where the host is not connected: nothing is asked for in vain.
            self.sessions.get(host.id)
            if FEATURE not in host.facts.features:
                raise SafetyError(f"the agent of {host.name} is too old for commands", "Upgrade the agent there.")
            asked = Event(kind="command.asked", severity=Event.SEVERITY_INFO, host=host.name, actor=actor)
            asked.message = f"{host.name} was asked to {operation.replace('_', ' ')}"
            asked.at.GetCurrentTime()
            await events.append(conn, [asked])
        self.events_stored.set()
        return host

    async def _followed(self, host: Host, command: Command) -> AsyncIterator[CommandProgress | CommandResult]:
        """What the host says of ``command`` up to its result. A session that breaks meanwhile is followed by the next one."""
        session = self.sessions.get(host.id)
        while True:
            async with session.run_command(command) as watch:
                async for said in watch.heard():
                    yield said
                    if isinstance(said, CommandResult):
                        return
            # The agent goes on by itself; under the same id it says how far it is, or how it ended.
            session = await self._next_session(host)

    async def _next_session(self, host: Host) -> Session:
        deadline = asyncio.get_running_loop().time() + ABSENCE_SECONDS
        while (left := deadline - asyncio.get_running_loop().time()) > 0:
            ticket = self.sessions.changed.ticket()
            session = next((one for one in self.sessions.all() if one.host_id == host.id), None)
            # One that has just ended is still listed for a moment.
            if session is not None and not session.is_closed:
                return session
            await wait_for(ticket, left)
        raise UnavailableError(
            f"{host.name} went away in the middle of it", "What its agent has begun goes on there: look again later."
        )
