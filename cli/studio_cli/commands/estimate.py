"""``studio estimate``: what a model needs of a GPU. Needs no coordinator: the coordinator's own program answers it here."""

import os
import sys

import typer


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        # The options are the program's own, its --help among them: they are handed on as they are.
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
        add_help_option=False,
        short_help="Say what a model needs of a GPU, part by part; needs no coordinator.",
    )(estimate)


def estimate(context: typer.Context) -> None:
    """Say what a model needs of a GPU, part by part."""
    argv = [sys.executable, "-m", "studio_coordinator", "estimate", *context.args]
    os.execv(argv[0], argv)  # noqa: S606 - the roles meet on the command line; there is no shell
