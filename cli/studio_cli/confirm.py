"""Nothing destructive without a name typed again, or ``--yes``."""

import sys

import typer
from studio_runtime.errors import SafetyError


def confirm(kind: str, name: str, consequence: str, *, yes: bool) -> None:
    """Go on only when it is meant. Raises SafetyError where it is not, and where nobody can be asked."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise SafetyError(f"{kind} {name} is not deleted without being sure: {consequence}", "Say --yes to do it.")
    typed = typer.prompt(f"{consequence}\nType the name of the {kind} to delete it", default="", show_default=False)
    if typed.strip() != name:
        raise SafetyError(f"{kind} {name} is not deleted: {typed.strip()!r} is another name")
