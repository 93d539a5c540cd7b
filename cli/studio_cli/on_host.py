"""Having a host do something, and following it to its end."""

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer
from studio.v1.admin_service_pb2 import ListHostsRequest, RunCommandRequest
from studio.v1.agent_service_pb2 import Command, CommandProgress, CommandResult
from studio.v1.host_pb2 import Host
from studio_runtime.errors import InvalidError, NotFoundError, SafetyError, StudioError, UnavailableError

from studio_cli import wording
from studio_cli.completion import completed_by, host_names
from studio_cli.coordinator import Coordinator
from studio_cli.report import Report

HostOption = Annotated[
    str,
    typer.Option(
        "--host", metavar="HOST", help="Which host. Default: the only one.", autocompletion=completed_by(host_names)
    ),
]

# What a host's word for a failure means to a script; others are just failures.
KINDS: dict[str, type[StudioError]] = {
    "not_found": NotFoundError,
    "model_missing": NotFoundError,
    "package_missing": NotFoundError,
    "invalid": InvalidError,
    "engine_version": InvalidError,
    "engine_not_provisioned": InvalidError,
    "in_use": SafetyError,
    "model_outside": SafetyError,
    "refused_by_safety": SafetyError,
}


async def hosts_named(coordinator: Coordinator, name: str) -> list[Host]:
    """The host ``name``, or all where it is empty. Raises NotFoundError."""
    answer = await coordinator.call(coordinator.admin.ListHosts, ListHostsRequest(), "list the hosts")
    found = [host for host in answer.hosts if name in ("", host.name, host.id)]
    if name and not found:
        raise NotFoundError(f"there is no host {name}", f"Hosts: {_names(answer.hosts)}.")
    return sorted(found, key=lambda host: host.name)


async def run_on_host(coordinator: Coordinator, host: str, doing: str, command: Command) -> None:
    """Run ``command`` on ``host`` as a step called ``doing``. Raises StudioError; an interrupt leaves it running there."""
    name = await _one_host(coordinator, host)
    request = RunCommandRequest(host=name, command=command)
    with Report.on_standard_output().step(doing) as step:
        try:
            async for answer in coordinator.stream(coordinator.admin.RunCommand, request, f"{doing} on {name}"):
                if answer.HasField("result"):
                    step.done(_outcome(answer.result))
                    return
                step.update(describe(answer.progress))
        except asyncio.CancelledError:
            step.done(f"goes on on {name} without you")
            raise
        raise UnavailableError(f"{doing}: the coordinator ended without a result", "Look again later.")


def describe(progress: CommandProgress) -> str:
    """How far it is: ``38 %, 3 GiB of 8 GiB``, and what the host says of it."""
    parts = [wording.share(progress.share)] if progress.HasField("share") else []
    if progress.HasField("bytes_done") and progress.HasField("bytes_total"):
        parts.append(f"{wording.size(progress.bytes_done)} of {wording.size(progress.bytes_total)}")
    return ", ".join([*parts, *([progress.detail] if progress.detail else [])])


def _outcome(result: CommandResult) -> str:
    if not result.ok:
        raise KINDS.get(result.reason, StudioError)(result.message, result.hint)
    return result.message


async def _one_host(coordinator: Coordinator, name: str) -> str:
    found = await hosts_named(coordinator, name)
    if len(found) == 1:
        return found[0].name
    if not found:
        raise NotFoundError("no host has ever connected", "Start an agent there.")
    raise InvalidError("there are several hosts", f"Name one with --host: {_names(found)}.")


def _names(hosts: Sequence[Host]) -> str:
    return ", ".join(sorted(host.name for host in hosts)) or "none"
