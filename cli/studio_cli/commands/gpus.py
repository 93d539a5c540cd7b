"""``studio hosts gpus``: the GPUs of hosts, and their way back from quarantine."""

from typing import Annotated

import typer
from studio.v1.agent_service_pb2 import CheckGpu, Command
from studio.v1.host_pb2 import Gpu, Host
from studio_runtime.errors import InvalidError, NotFoundError

from studio_cli.command import OutputOption, WatchOption, command, noun
from studio_cli.completion import completed_by, host_names
from studio_cli.coordinator import Coordinator
from studio_cli.on_host import hosts_named, run_on_host
from studio_cli.output import Answer, Format, show_list
from studio_cli.views.gpus import gpu_items, gpu_table

HostArgument = Annotated[str, typer.Argument(metavar="HOST", autocompletion=completed_by(host_names))]


def register(hosts: typer.Typer) -> None:
    """Add the commands below ``studio hosts``."""
    gpus = noun(hosts, "gpus", "The GPUs of hosts.")
    command(gpus, list_gpus, "studio hosts gpus", "studio hosts gpus list lab-1 -o wide", name="list")
    command(gpus, check_gpu, "studio hosts gpus check lab-1 4", name="check")


async def list_gpus(
    coordinator: Coordinator,
    host: Annotated[
        str,
        typer.Argument(metavar="[HOST]", help="Default: all.", autocompletion=completed_by(host_names)),
    ] = "",
    output: OutputOption = Format.TABLE,
    watch: WatchOption = False,
) -> None:
    """List the GPUs, with their health."""

    async def fetch() -> Answer:
        hosts = await hosts_named(coordinator, host)
        return Answer(gpu_items(hosts), gpu_table(hosts))

    await show_list(fetch, output, watch=watch)


async def check_gpu(
    coordinator: Coordinator,
    host: HostArgument,
    gpu: Annotated[str, typer.Argument(metavar="GPU", help="Its index or its UUID.")],
) -> None:
    """Have a quarantined GPU looked at again.

    It is given work again if nothing that its driver says now speaks against it; else exit 5, with what does.
    """
    found = await _one_host(coordinator, host)
    chosen = _chosen(found, gpu)
    await run_on_host(
        coordinator, found.name, f"check GPU {chosen.index}", Command(check_gpu=CheckGpu(uuid=chosen.uuid))
    )


async def _one_host(coordinator: Coordinator, name: str) -> Host:
    """The host ``name``. Raises InvalidError or NotFoundError."""
    if not name:
        raise InvalidError("no host is named", "Say which: studio hosts gpus check HOST GPU.")
    found = await hosts_named(coordinator, name)
    if len(found) > 1:
        raise InvalidError(
            f"several hosts are called {name}", f"Say which by its id: {', '.join(it.id for it in found)}."
        )
    return found[0]


def _chosen(host: Host, name: str) -> Gpu:
    """The GPU that ``name`` means; any MIG instance stands for the GPU that it is part of. Raises NotFoundError."""
    for gpu in host.gpus:
        if name in (str(gpu.index), gpu.uuid):
            return gpu
    known = ", ".join(f"{gpu.index} ({gpu.uuid})" for gpu in sorted(host.gpus, key=lambda one: one.index)) or "none"
    raise NotFoundError(f"{host.name} has no GPU {name}", f"Its GPUs: {known}.")
