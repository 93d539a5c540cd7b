"""The tree of commands."""

import typer

from studio_cli.commands import (
    apply,
    audit,
    authority,
    delete,
    deployments,
    describe,
    engines,
    estimate,
    events,
    gateways,
    host_verbs,
    hosts,
    keys,
    login,
    logs,
    lora,
    models,
    operators,
    plan,
    providers,
    ps,
    rebalance,
    recipes,
    resting,
    rollout,
    secrets,
    state,
    state_accept,
    status,
    system,
    tenants,
    top,
    usage,
)

# In the order of the help.
COMMANDS = (
    system,
    apply,
    plan,
    ps,
    top,
    describe,
    logs,
    events,
    deployments,
    resting,
    delete,
    state,
    state_accept,
    recipes,
    rollout,
    estimate,
    hosts,
    host_verbs,
    gateways,
    authority,
    rebalance,
    engines,
    models,
    lora,
    keys,
    tenants,
    providers,
    secrets,
    operators,
    login,
    audit,
    usage,
    status,
)


def make_app() -> typer.Typer:
    """The whole application."""
    app = typer.Typer(
        name="studio",
        help="LLM inference on machines that you own.",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    for commands in COMMANDS:
        commands.register(app)
    return app
