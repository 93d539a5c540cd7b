"""The verbs that change a host: ``studio cordon|uncordon|drain``, ``studio label|forget``."""

from typing import Annotated

import typer
from studio.v1.admin_service_pb2 import RemoveHostRequest, UpdateHostRequest
from studio.v1.host_pb2 import Host
from studio_runtime.errors import InvalidError

from studio_cli import wording
from studio_cli.command import TimeoutOption, YesOption, command
from studio_cli.completion import completed_by, host_names
from studio_cli.confirm import confirm
from studio_cli.coordinator import Coordinator
from studio_cli.report import Report
from studio_cli.views.replicas import is_on
from studio_cli.waiting import until_none_left

HostArgument = Annotated[str, typer.Argument(metavar="HOST", autocompletion=completed_by(host_names))]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    command(app, cordon, "studio cordon lab-1")
    command(app, uncordon, "studio uncordon lab-1")
    command(app, drain, "studio drain lab-1", "studio drain lab-1 --no-wait")
    command(app, label, "studio label lab-1 pool=prod rack=7", "studio label lab-1 pool-")
    command(app, forget, "studio forget lab-1 --yes")


async def cordon(coordinator: Coordinator, host: HostArgument) -> None:
    """Place nothing new on a host; what runs there goes on."""
    changed = await _update(coordinator, host, UpdateHostRequest.VERB_CORDON)
    _say(f"{changed.name} takes nothing new; studio uncordon {changed.name} undoes it")


async def uncordon(coordinator: Coordinator, host: HostArgument) -> None:
    """Let replicas be placed on a host again."""
    changed = await _update(coordinator, host, UpdateHostRequest.VERB_UNCORDON)
    _say(f"{changed.name} takes replicas again")


async def drain(
    coordinator: Coordinator,
    host: HostArgument,
    wait: Annotated[bool, typer.Option(help="Wait until nothing is left on the host.")] = True,
    timeout: TimeoutOption = "1h",
) -> None:
    """Move everything away from a host.

    Each replica goes once another one serves in its place; its requests in flight finish within the drain deadline.
    """
    seconds = wording.parse_duration(timeout)
    changed = await _update(coordinator, host, UpdateHostRequest.VERB_DRAIN)
    report = Report.on_standard_output()
    if not wait:
        report.line(f"{changed.name} is being drained; studio hosts show {changed.name} tells how far it is")
        return
    with report.step(changed.name) as step:
        await until_none_left(
            coordinator,
            changed.name,
            lambda replica: is_on(replica, changed),
            lambda lines: step.update("; ".join(lines)),
            seconds,
        )
        step.done(f"drained: nothing is left; studio uncordon {changed.name} takes it back")


async def label(
    coordinator: Coordinator,
    host: HostArgument,
    labels: Annotated[list[str], typer.Argument(metavar="KEY=VALUE|KEY-", help="KEY- removes a label.")],
) -> None:
    """Set or remove labels of a host, which placement.labels selects by."""
    kept: dict[str, str] = {}
    removed: list[str] = []
    for text in labels:
        key, equals, value = text.partition("=")
        if equals and key:
            kept[key] = value
        elif text.endswith("-") and len(text) > 1:
            removed.append(text[:-1])
        else:
            raise InvalidError(f"{text!r} is neither KEY=VALUE nor KEY-", "For instance: pool=prod, or pool-")
    changed = await _update(coordinator, host, UpdateHostRequest.VERB_LABEL, kept, removed)
    told = ", ".join(f"{key}={value}" for key, value in sorted(changed.labels.items()))
    _say(f"{changed.name}: {told or 'no labels'}")


async def forget(coordinator: Coordinator, host: HostArgument, yes: YesOption = False) -> None:
    """Forget a host that is gone for good."""
    confirm("host", host, f"{host} will be known no more", yes=yes)
    await coordinator.call(coordinator.admin.RemoveHost, RemoveHostRequest(host=host), f"forget host {host}")
    _say(f"{host} is forgotten")


async def _update(
    coordinator: Coordinator,
    host: str,
    verb: UpdateHostRequest.Verb.ValueType,
    labels: dict[str, str] | None = None,
    removed: list[str] | None = None,
) -> Host:
    request = UpdateHostRequest(host=host, verb=verb, labels=labels, removed_labels=removed)
    answer = await coordinator.call(coordinator.admin.UpdateHost, request, f"change host {host}")
    return answer.host


def _say(line: str) -> None:
    Report.on_standard_output().line(line)
