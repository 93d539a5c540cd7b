"""One question to a connected host: a command that only reads, and its result."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from studio.v1.agent_service_pb2 import Command, CommandResult
from studio_runtime.errors import UnavailableError

from studio_coordinator.sessions import Session


async def ask(session: Session, question: Command, term: int, seconds: float) -> CommandResult:
    """The host's answer; its id, term and deadline are set here. Raises UnavailableError when none comes in time."""
    question.command_id = uuid4().hex
    question.term = term
    question.deadline.FromDatetime(datetime.now(UTC) + timedelta(seconds=seconds))
    try:
        async with asyncio.timeout(seconds), session.run_command(question) as watch:
            async for said in watch.heard():
                if isinstance(said, CommandResult):
                    return said
    except TimeoutError:
        raise UnavailableError(f"{session.host_name} did not answer within {seconds:.0f} s") from None
    raise UnavailableError(f"{session.host_name} went away before it answered")
