"""``studio engines``: the programs of engines on hosts."""

from typing import Annotated

import typer
from studio.v1.agent_service_pb2 import Command, InstallEngine, RemoveEngine

from studio_cli.command import OutputOption, YesOption, command, noun
from studio_cli.confirm import confirm
from studio_cli.coordinator import Coordinator
from studio_cli.on_host import HostOption, hosts_named, run_on_host
from studio_cli.output import Answer, Format, show_list
from studio_cli.views.assets import engine_items, engine_table

EngineArgument = Annotated[str, typer.Argument(metavar="ENGINE", help="As recipes call it: vllm.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    engines = noun(app, "engines", "Engine programs that are installed on hosts.")
    command(engines, list_engines, "studio engines", "studio engines list --host lab-1", name="list")
    command(
        engines,
        install_engine,
        "studio engines install vllm --host lab-1",
        "studio engines install vllm 0.33.0 --host lab-1",
        name="install",
    )
    command(engines, remove_engine, "studio engines remove vllm 0.33.0 --host lab-1", name="remove")


async def list_engines(coordinator: Coordinator, host: HostOption = "", output: OutputOption = Format.TABLE) -> None:
    """List the engines that are installed."""

    async def fetch() -> Answer:
        hosts = await hosts_named(coordinator, host)
        return Answer(engine_items(hosts), engine_table(hosts))

    await show_list(fetch, output)


async def install_engine(
    coordinator: Coordinator,
    engine: EngineArgument,
    version: Annotated[
        str, typer.Argument(metavar="[VERSION]", help="Default: the one this release is tested with.")
    ] = "",
    host: HostOption = "",
) -> None:
    """Install an engine, or go on with an installation that broke off.

    It needs no recipe and starts nothing: a deployment that comes later finds it there.
    """
    wanted = InstallEngine(engine=engine, version=version)
    await run_on_host(coordinator, host, f"install {engine}", Command(install_engine=wanted))


async def remove_engine(
    coordinator: Coordinator,
    engine: EngineArgument,
    version: Annotated[str, typer.Argument(metavar="[VERSION]", help="Default: the only one there.")] = "",
    host: HostOption = "",
    yes: YesOption = False,
) -> None:
    """Remove an installed engine. One that a replica uses stays."""
    confirm("engine", engine, f"{engine} {version}".rstrip() + " will have to be installed again.", yes=yes)
    wanted = RemoveEngine(engine=engine, version=version)
    await run_on_host(coordinator, host, f"remove {engine}", Command(remove_engine=wanted))
