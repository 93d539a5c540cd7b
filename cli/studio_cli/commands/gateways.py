"""``studio gateways``."""

import typer
from studio.v1.identity_service_pb2 import Identity

from studio_cli.command import command, noun
from studio_cli.commands import gateway_export, identities


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    gateways = noun(app, "gateways", "The front doors that have joined.")
    command(gateways, identities.listing(Identity.KIND_GATEWAY, "gateways"), "studio gateways", name="list")
    identities.register(gateways, "gateways", Identity.KIND_GATEWAY)
    gateway_export.register(gateways)
    # One of them is meant as often as all.
    app.add_typer(gateways, name="gateway", hidden=True)
