"""Commands that talk to the coordinator: each body is a coroutine that is handed the connection.

``command`` adds what all of them share: ``--coordinator`` and ``--context``, the connection, a span of its own, examples in the
help.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer
from studio_runtime.tracing import span
from typer.core import TyperCommand, TyperGroup

from studio_cli.addresses import resolve
from studio_cli.coordinator import connect
from studio_cli.credentials import bearer_for
from studio_cli.output import Format
from studio_cli.trust import trusted

OutputOption = Annotated[Format, typer.Option("--output", "-o", help="How the answer is written.")]
WatchOption = Annotated[bool, typer.Option("--watch", "-w", help="Go on and show what changes; Ctrl-C ends it.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
WaitOption = Annotated[
    bool | None, typer.Option("--wait/--no-wait", help="Wait until it is done. Default: on a terminal, yes.")
]
IfVersionOption = Annotated[
    int,
    typer.Option(
        "--if-version",
        metavar="N",
        min=0,
        show_default=False,
        help="Only if the deployment is still at version N; else exit 4, with what changed.",
    ),
]
TimeoutOption = Annotated[str, typer.Option("--timeout", help="How long to wait: 90s, 10m, 2h.")]

SHARED = (
    inspect.Parameter(
        "coordinator",
        inspect.Parameter.KEYWORD_ONLY,
        default="",
        annotation=Annotated[
            str,
            typer.Option(
                "--coordinator",
                metavar="HOST:PORT[,…]",
                help="Which coordinator; also $STUDIO_COORDINATOR.",
                show_default=False,
            ),
        ],
    ),
    inspect.Parameter(
        "context",
        inspect.Parameter.KEYWORD_ONLY,
        default="",
        annotation=Annotated[
            str,
            typer.Option(
                "--context", metavar="NAME", help="One named in ~/.config/vllm-studio/config.toml.", show_default=False
            ),
        ],
    ),
)


class Noun(TyperGroup):
    """A group of commands about one noun; by itself it lists."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put ``list`` where no command is named."""
        if not args or (args[0].startswith("-") and args[0] not in ("-h", "--help")):
            args = ["list", *args]
        return super().parse_args(ctx, args)


def noun(app: typer.Typer, name: str, about: str) -> typer.Typer:
    """A group of commands below ``app``."""
    group = typer.Typer(name=name, help=about, cls=Noun, rich_markup_mode=None)
    app.add_typer(group)
    return group


def command(
    app: typer.Typer,
    body: Callable[..., Awaitable[None]],
    *examples: str,
    name: str | None = None,
    cls: type[TyperCommand] = TyperCommand,
) -> None:
    """Add ``body`` to ``app`` under its own name or ``name``; its first parameter is the connected ``Coordinator``."""
    signature = inspect.signature(body, eval_str=True)
    own = list(signature.parameters.values())[1:]
    typed = name or body.__name__

    def invoke(*, coordinator: str, context: str, **arguments: Any) -> None:
        async def connected() -> None:
            addresses = resolve(coordinator, context)
            bearer = bearer_for(coordinator, context, addresses)
            async with connect(addresses, trusted(coordinator, context), bearer) as connection:
                await body(connection, **arguments)

        with span(f"studio {typed}"):
            asyncio.run(connected())

    shared = [*own, *SHARED]
    keyword_only = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in shared]
    invoke.__signature__ = inspect.Signature(keyword_only)  # type: ignore[attr-defined] # read by inspect.signature
    invoke.__annotations__ = {parameter.name: parameter.annotation for parameter in keyword_only}
    invoke.__doc__ = body.__doc__
    app.command(typed, cls=cls, epilog=epilog(examples))(invoke)


def epilog(examples: tuple[str, ...]) -> str:
    """Examples below the help of a command; the mark keeps their lines from being joined."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in examples)
