"""The tree of commands."""

import typer

from studio_cli.commands import system

COMMANDS = (system,)


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
