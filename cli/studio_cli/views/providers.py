"""``studio providers``."""

from collections.abc import Iterable

from studio.v1.route_pb2 import ProviderRoute

from studio_cli import wording
from studio_cli.views.table import Column, Row, Table

COLUMNS = (Column("MODEL"), Column("PROVIDER MODEL"), Column("API BASE"), Column("KEY FROM"), Column("FALLBACKS"))


def provider_table(providers: Iterable[ProviderRoute]) -> Table:
    """All models of other providers."""
    rows = tuple(
        Row(
            one.model,
            (
                one.model,
                one.provider_model,
                one.api_base or "default",
                key_source(one),
                ",".join(one.fallbacks) or wording.NOTHING,
            ),
        )
        for one in sorted(providers, key=lambda one: one.model)
    )
    return Table(COLUMNS, rows, "there is no model of another provider: studio providers add MODEL PROVIDER/MODEL")


def key_source(provider: ProviderRoute) -> str:
    """The environment variable of the gateway that holds the key, or the stored secret that is the key."""
    if provider.api_key_secret:
        return f"secret {provider.api_key_secret}"
    return f"${provider.api_key_env}" if provider.api_key_env else wording.NOTHING
