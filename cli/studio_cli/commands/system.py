"""``studio up`` and ``studio down``."""

import os
import socket
from pathlib import Path
from typing import Annotated

import typer
from studio_runtime.process import run_until_stopped
from studio_runtime.settings import DEFAULT_COORDINATOR_PORT, DEFAULT_GATEWAY_PORT, Home

from studio_cli.command import epilog
from studio_cli.report import Report
from studio_cli.up.bring_up import up as bring_up
from studio_cli.up.detach import detach
from studio_cli.up.down import down as bring_down
from studio_cli.up.options import UpOptions
from studio_cli.up.roles import roles_of


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command(
        epilog=epilog(
            (
                "studio up",
                "studio up --engine vllm --model Qwen/Qwen3-0.6B",
                "studio up --engine vllm --model /srv/models/mine --engine-path /opt/vllm/bin/vllm --name chat",
                "STUDIO_HOME=~/second studio up --gateway-port 4001 --coordinator-port 7071 --detach",
            )
        )
    )(up)
    app.command(epilog=epilog(("studio down",)))(down)


def up(
    gateway_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Where the OpenAI API is served.")
    ] = DEFAULT_GATEWAY_PORT,
    coordinator_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Where the CLI reaches the coordinator.")
    ] = DEFAULT_COORDINATOR_PORT,
    engine: Annotated[str, typer.Option(help="Engine of the first recipe: demo, vllm, …")] = "",
    model: Annotated[str, typer.Option(help="Its model: a directory, or a Hugging Face id (OWNER/NAME).")] = "",
    engine_path: Annotated[
        str, typer.Option(help="An engine program that is already here; else one is installed.")
    ] = "",
    name: Annotated[str, typer.Option(help="Public model name; made from the model where it is not given.")] = "",
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait until the models are ready.")] = 3600.0,
    detach_it: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when all is ready and go on behind.")
    ] = False,
    background: Annotated[bool, typer.Option("--background", hidden=True)] = False,
) -> None:
    """Run the whole system on this machine.

    That is PostgreSQL, coordinator, agent and gateway, with a first model.

    Everything it keeps is in $STUDIO_HOME (~/.vllm-studio). Ctrl-C stops everything, engines included; the next start finds its
    state again. With STUDIO_DATABASE_URL set, that database is used instead of the embedded one.
    """
    home = Home.from_environment()
    report = Report.on_standard_output()
    options = UpOptions(
        gateway_port=gateway_port,
        coordinator_port=coordinator_port,
        engine=engine,
        model=model,
        engine_path=str(Path(engine_path).expanduser().absolute()) if engine_path else "",
        name=name,
        timeout_seconds=timeout,
        database_url=os.environ.get("STUDIO_DATABASE_URL", ""),
        detached=background,
    )
    if detach_it:
        run_until_stopped(lambda: detach(home, options, report))
        return
    roles = roles_of(home, options, socket.gethostname())
    run_until_stopped(lambda: bring_up(home, options, roles, report))


def down() -> None:
    """Stop the system that runs on this machine.

    It is the one of $STUDIO_HOME, engines included, and also what a killed one left behind.
    """
    home = Home.from_environment()
    run_until_stopped(lambda: bring_down(home, Report.on_standard_output()))
