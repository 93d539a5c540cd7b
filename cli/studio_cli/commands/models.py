"""``studio models``: model files on hosts."""

from typing import Annotated

import typer
from studio.v1.agent_service_pb2 import CancelPull, Command, PausePull, PullModel, RemoveModel

from studio_cli.command import OutputOption, WatchOption, YesOption, command, noun
from studio_cli.confirm import confirm
from studio_cli.coordinator import Coordinator
from studio_cli.on_host import HostOption, hosts_named, run_on_host
from studio_cli.output import Answer, Format, show_list
from studio_cli.views.assets import model_items, model_table

ModelArgument = Annotated[str, typer.Argument(metavar="OWNER/NAME", help="As the hub calls it; also hf://OWNER/NAME.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    models = noun(app, "models", "Model files in the caches of hosts.")
    command(models, list_models, "studio models", "studio models list --host lab-1 -w", name="list")
    command(
        models,
        pull_model,
        "studio models pull Qwen/Qwen3-8B --host lab-1",
        "studio models pull Qwen/Qwen3-8B --revision main",
        name="pull",
    )
    command(models, pause_pull, "studio models pause Qwen/Qwen3-8B --host lab-1", name="pause")
    command(models, cancel_pull, "studio models cancel Qwen/Qwen3-8B --host lab-1", name="cancel")
    command(models, remove_model, "studio models rm Qwen/Qwen3-8B --host lab-1", name="rm")


async def list_models(
    coordinator: Coordinator,
    host: HostOption = "",
    output: OutputOption = Format.TABLE,
    watch: WatchOption = False,
) -> None:
    """List the models in the caches, and those on their way."""

    async def fetch() -> Answer:
        hosts = await hosts_named(coordinator, host)
        return Answer(model_items(hosts), model_table(hosts))

    await show_list(fetch, output, watch=watch)


async def pull_model(
    coordinator: Coordinator,
    model: ModelArgument,
    revision: Annotated[str, typer.Option(help="A branch, a tag or a commit.")] = "",
    host: HostOption = "",
) -> None:
    """Fetch a model into a host's cache, go on with a pull that was paused, or mend a copy.

    Every file is checked, those that are there already as well; only what is missing or damaged is fetched. Ctrl-C ends this
    command and not the pull.
    """
    wanted = PullModel(source=source_of(model), revision=revision)
    await run_on_host(coordinator, host, f"pull {model}", Command(pull_model=wanted))


async def pause_pull(coordinator: Coordinator, model: ModelArgument, host: HostOption = "") -> None:
    """Stop fetching a model and keep what is there; replicas that need it wait."""
    await run_on_host(coordinator, host, f"pause {model}", Command(pause_pull=PausePull(source=source_of(model))))


async def cancel_pull(coordinator: Coordinator, model: ModelArgument, host: HostOption = "") -> None:
    """Stop fetching a model and drop what is not whole."""
    await run_on_host(coordinator, host, f"cancel {model}", Command(cancel_pull=CancelPull(source=source_of(model))))


async def remove_model(
    coordinator: Coordinator,
    model: ModelArgument,
    revision: Annotated[str, typer.Option(help="A branch, a tag or a commit. Default: the only one there.")] = "",
    host: HostOption = "",
    yes: YesOption = False,
) -> None:
    """Remove a model from a host's cache. One that a replica uses stays."""
    confirm("model", model, f"{model} will have to be fetched again.", yes=yes)
    wanted = RemoveModel(source=source_of(model), revision=revision)
    await run_on_host(coordinator, host, f"remove {model}", Command(remove_model=wanted))


def source_of(model: str) -> str:
    """``hf://OWNER/NAME`` of what was typed."""
    return model if "://" in model else f"hf://{model}"
