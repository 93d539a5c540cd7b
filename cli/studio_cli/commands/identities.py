"""Identities of nodes, below the noun of their kind: ``studio hosts|gateways token|tokens|identities|revoke``."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from studio.v1.access_service_pb2 import (
    CreateJoinTokenRequest,
    ListIdentitiesRequest,
    ListJoinTokensRequest,
    RevokeIdentityRequest,
    RevokeJoinTokenRequest,
)
from studio.v1.identity_service_pb2 import Identity

from studio_cli import wording
from studio_cli.command import OutputOption, YesOption, command, noun
from studio_cli.confirm import confirm
from studio_cli.coordinator import Coordinator
from studio_cli.output import Answer, Format, show_list, write_data, write_lines
from studio_cli.report import Report
from studio_cli.views.identities import how_to_join, identity_table, kind_of, token_table
from studio_cli.views.plain import plain

Body = Callable[..., Awaitable[None]]


def register(group: typer.Typer, word: str, kind: Identity.Kind.ValueType) -> None:
    """Add the verbs to the noun ``word``, whose nodes are of ``kind``."""
    command(group, _making(kind), f"studio {word} token --name lab-1", f"studio {word} token -o json", name="token")
    command(group, listing(kind, word), f"studio {word} identities", name="identities")
    command(group, revoke, f"studio {word} revoke lab-1 --reason 'sold'", name="revoke")
    tokens = noun(group, "tokens", "Join tokens: who may still join.")
    command(tokens, list_tokens, f"studio {word} tokens", name="list")
    command(tokens, take_back, f"studio {word} tokens revoke a4k2xw9f3bqz", name="revoke")


def _making(kind: Identity.Kind.ValueType) -> Body:
    async def make_token(
        coordinator: Coordinator,
        name: Annotated[
            str, typer.Option(help="The only name it is good for, also to join again. Default: any name that is new.")
        ] = "",
        lifetime: Annotated[str, typer.Option(help="How long it may be used: at most 15m.")] = "15m",
        kind_word: Annotated[
            str, typer.Option("--kind", metavar="KIND", help="Of the node: agent, gateway, console.")
        ] = kind_of(kind),
        output: OutputOption = Format.TABLE,
    ) -> None:
        """Make a token that lets one node join, once.

        It is shown this once and kept nowhere. The node makes its key itself and gets a certificate for it.
        """
        seconds = timedelta(seconds=wording.parse_duration(lifetime))
        wanted = Identity.Kind.Value(f"KIND_{kind_word.upper()}") if _is_kind(kind_word) else Identity.KIND_UNSPECIFIED
        request = CreateJoinTokenRequest(kind=wanted, name=name)
        request.lifetime.FromTimedelta(seconds)
        answer = await coordinator.call(coordinator.access.CreateJoinToken, request, "make a join token")
        if output.is_data:
            told = {"token": answer.secret, "authority_fingerprint": answer.authority_fingerprint}
            write_data(plain(answer.token) | told, output)
            return
        write_lines([answer.secret])
        for line in how_to_join(answer.token, answer.authority_fingerprint, datetime.now(UTC)):
            Report.on_standard_error().line(line)

    return make_token


def _is_kind(word: str) -> bool:
    return f"KIND_{word.upper()}" in Identity.Kind.keys() and word != "unspecified"  # noqa: SIM118 - no mapping


def listing(kind: Identity.Kind.ValueType, word: str) -> Body:
    """The command that lists the identities of ``kind``, for the noun ``word``."""

    async def list_identities(coordinator: Coordinator, output: OutputOption = Format.TABLE) -> None:
        """List who has joined: until when each certificate counts, and who is refused, and why."""

        async def fetch() -> Answer:
            answer = await coordinator.call(
                coordinator.access.ListIdentities, ListIdentitiesRequest(), "list the identities"
            )
            found = [identity for identity in answer.identities if identity.kind == kind]
            empty = f"nobody has joined yet: studio {word} token makes a join token"
            return Answer(found, identity_table(found, datetime.now(UTC), empty))

        await show_list(fetch, output)

    return list_identities


async def list_tokens(coordinator: Coordinator, output: OutputOption = Format.TABLE) -> None:
    """List the join tokens of all kinds, without their secrets."""

    async def fetch() -> Answer:
        answer = await coordinator.call(coordinator.access.ListJoinTokens, ListJoinTokensRequest(), "list the tokens")
        return Answer(list(answer.tokens), token_table(answer.tokens, datetime.now(UTC)))

    await show_list(fetch, output)


async def take_back(coordinator: Coordinator, token_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Take back a join token that was not used."""
    request = RevokeJoinTokenRequest(id=token_id)
    await coordinator.call(coordinator.access.RevokeJoinToken, request, f"take back token {token_id}")
    Report.on_standard_output().line(f"join token {token_id} is good for nothing any more")


async def revoke(
    coordinator: Coordinator,
    name: Annotated[str, typer.Argument(metavar="NAME|ID")],
    reason: Annotated[str, typer.Option(help="Shown wherever it is refused.")] = "",
    yes: YesOption = False,
) -> None:
    """Refuse a node from now on.

    Its streams end at once. Engines of a host go on serving; a new join token with its name takes it back.
    """
    confirm("node", name, f"{name} is refused until it joins again", yes=yes)
    request = RevokeIdentityRequest(identity=name, reason=reason)
    answer = await coordinator.call(coordinator.access.RevokeIdentity, request, f"revoke {name}")
    identity = answer.identity
    Report.on_standard_output().line(
        f"{kind_of(identity.kind)} {identity.name} is refused from now on: {identity.locked_reason}"
    )
