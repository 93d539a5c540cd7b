"""``studio providers``: models of others, behind the same gateway."""

from typing import Annotated

import typer
from studio.v1.admin_service_pb2 import AddProviderRequest, ListProvidersRequest, RemoveProviderRequest
from studio.v1.route_pb2 import ProviderRoute

from studio_cli.command import OutputOption, command, noun
from studio_cli.completion import completed_by, deployment_names, provider_models
from studio_cli.coordinator import Coordinator
from studio_cli.output import Answer, Format, show_list
from studio_cli.report import Report
from studio_cli.views.providers import provider_table


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    providers = noun(app, "providers", "Models of other providers.")
    command(providers, list_providers, "studio providers", name="list")
    command(
        providers,
        add_provider,
        "studio providers add gpt-5-mini openai/gpt-5-mini --key-env OPENAI_API_KEY",
        "studio providers add big openai/big --api-base http://10.0.0.9:8000/v1 --allow-private",
        "studio providers add mini openai/gpt-5-mini --key-secret openai --fallback chat",
        name="add",
    )
    command(providers, remove_provider, "studio providers remove gpt-5-mini", name="remove")


async def list_providers(coordinator: Coordinator, output: OutputOption = Format.TABLE) -> None:
    """List the models of other providers."""

    async def fetch() -> Answer:
        answer = await coordinator.call(coordinator.admin.ListProviders, ListProvidersRequest(), "list the providers")
        return Answer(list(answer.providers), provider_table(answer.providers))

    await show_list(fetch, output)


async def add_provider(
    coordinator: Coordinator,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The public name that applications use.")],
    provider_model: Annotated[str, typer.Argument(metavar="PROVIDER/MODEL", help="LiteLLM's name for it.")],
    key_env: Annotated[
        str,
        typer.Option(help="The gateway's environment variable that holds the key; the key itself is stored nowhere."),
    ] = "",
    key_secret: Annotated[
        str, typer.Option(metavar="SECRET", help="Or a stored secret that is the key: studio secrets put.")
    ] = "",
    api_base: Annotated[str, typer.Option(metavar="URL", help="Where it is not the provider's own.")] = "",
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="The URL may be on a private network; for administrators.")
    ] = False,
    fallback: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="A model that answers instead when the provider does not; may be repeated.",
            autocompletion=completed_by(deployment_names, provider_models),
        ),
    ] = None,
) -> None:
    """Serve another provider's model under a public name."""
    route = ProviderRoute(
        model=model,
        provider_model=provider_model,
        api_base=api_base,
        api_key_env=key_env,
        api_key_secret=key_secret,
        allow_private=allow_private,
        fallbacks=fallback or [],
    )
    await coordinator.call(coordinator.admin.AddProvider, AddProviderRequest(provider=route), f"add {model}")
    Report.on_standard_output().line(f"{model} leads to {provider_model}")


async def remove_provider(
    coordinator: Coordinator,
    model: Annotated[str, typer.Argument(metavar="MODEL", autocompletion=completed_by(provider_models))],
) -> None:
    """Serve a provider's model no longer."""
    await coordinator.call(coordinator.admin.RemoveProvider, RemoveProviderRequest(model=model), f"remove {model}")
    Report.on_standard_output().line(f"{model} removed")
