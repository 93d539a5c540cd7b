"""``studio tenants`` and ``studio prices``."""

from typing import Annotated

import typer
from studio.v1.admin_service_pb2 import (
    ListPricesRequest,
    ListTenantsRequest,
    PutPriceRequest,
    PutTenantRequest,
    RemovePriceRequest,
    RemoveTenantRequest,
)
from studio.v1.route_pb2 import Limits, Price, Tenant
from studio_runtime.errors import NotFoundError

from studio_cli.command import OutputOption, command, noun
from studio_cli.coordinator import Coordinator
from studio_cli.limit_options import (
    MICROS,
    ConcurrencyOption,
    MoneyBudgetOption,
    PeriodOption,
    RequestsOption,
    TokenBudgetOption,
    TokensOption,
    limits_of,
)
from studio_cli.output import Answer, Format, show_list
from studio_cli.report import Report
from studio_cli.views.tenants import price_table, tenant_table

WeightOption = Annotated[
    float | None, typer.Option(help="Its part when tenants compete, beside the others'. Default: 1.")
]
EachUserOption = Annotated[
    bool, typer.Option("--each-user", help="The limits named are those of each of its users, not of the whole.")
]
NameArgument = Annotated[str, typer.Argument(metavar="NAME")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    tenants = noun(app, "tenants", "Who keys and deployments belong to.")
    command(tenants, list_tenants, "studio tenants", name="list")
    command(
        tenants,
        create_tenant,
        "studio tenants create research --tokens-per-minute 200000",
        "studio tenants create web --weight 3 --money-budget 500 --budget-per month",
        name="create",
    )
    command(
        tenants,
        set_tenant,
        "studio tenants set research --concurrency 32",
        "studio tenants set research --each-user --token-budget 5000000 --budget-per day",
        name="set",
    )
    command(tenants, remove_tenant, "studio tenants remove research", name="remove")
    prices = noun(app, "prices", "What tokens cost.")
    command(prices, list_prices, "studio prices", name="list")
    command(
        prices,
        set_price,
        "studio prices set chat --prompt 0.50 --completion 1.50",
        "studio prices set chat --prompt 0.50 --completion 1.50 --cached 0.05",
        name="set",
    )
    command(prices, remove_price, "studio prices remove chat", name="remove")


async def list_tenants(coordinator: Coordinator, output: OutputOption = Format.TABLE) -> None:
    """List the tenants."""

    async def fetch() -> Answer:
        answer = await coordinator.call(coordinator.admin.ListTenants, ListTenantsRequest(), "list the tenants")
        return Answer(list(answer.tenants), tenant_table(answer.tenants))

    await show_list(fetch, output)


async def create_tenant(
    coordinator: Coordinator,
    name: NameArgument,
    *,
    description: str = "",
    weight: WeightOption = None,
    requests: RequestsOption = None,
    tokens: TokensOption = None,
    concurrency: ConcurrencyOption = None,
    token_budget: TokenBudgetOption = None,
    money_budget: MoneyBudgetOption = None,
    budget_per: PeriodOption = "",
    each_user: EachUserOption = False,
) -> None:
    """Make a tenant; its limits bind all of its keys together."""
    limits = limits_of(requests, tokens, concurrency, token_budget, money_budget, budget_per)
    tenant = Tenant(name=name, description=description, weight=weight)
    if limits is not None:
        _limits_of(tenant, each_user=each_user).CopyFrom(limits)
    await coordinator.call(coordinator.admin.PutTenant, PutTenantRequest(tenant=tenant), f"create tenant {name}")
    Report.on_standard_output().line(f"tenant {name} is there: studio keys create NAME --tenant {name}")


async def set_tenant(
    coordinator: Coordinator,
    name: NameArgument,
    *,
    description: str = "",
    weight: WeightOption = None,
    requests: RequestsOption = None,
    tokens: TokensOption = None,
    concurrency: ConcurrencyOption = None,
    token_budget: TokenBudgetOption = None,
    money_budget: MoneyBudgetOption = None,
    budget_per: PeriodOption = "",
    each_user: EachUserOption = False,
    no_limits: Annotated[
        bool, typer.Option("--no-limits", help="Lift every limit of it; with --each-user those of its users.")
    ] = False,
) -> None:
    """Change a tenant.

    Limits that are named replace all that it had, or, with --each-user, all that each of its users had.
    """
    answer = await coordinator.call(coordinator.admin.ListTenants, ListTenantsRequest(), "look at the tenants")
    tenant = next((one for one in answer.tenants if one.name == name), None)
    if tenant is None:
        raise NotFoundError(f"there is no tenant {name}", "studio tenants lists them.")
    tenant.description = description or tenant.description
    if weight is not None:
        tenant.weight = weight
    limits = limits_of(requests, tokens, concurrency, token_budget, money_budget, budget_per)
    if no_limits:
        tenant.ClearField("user_limits" if each_user else "limits")
    elif limits is not None:
        _limits_of(tenant, each_user=each_user).CopyFrom(limits)
    await coordinator.call(coordinator.admin.PutTenant, PutTenantRequest(tenant=tenant), f"change tenant {name}")
    Report.on_standard_output().line(f"tenant {name} changed")


def _limits_of(tenant: Tenant, *, each_user: bool) -> Limits:
    return tenant.user_limits if each_user else tenant.limits


async def remove_tenant(coordinator: Coordinator, name: NameArgument) -> None:
    """Remove a tenant that has neither keys nor deployments."""
    await coordinator.call(coordinator.admin.RemoveTenant, RemoveTenantRequest(name=name), f"remove tenant {name}")
    Report.on_standard_output().line(f"tenant {name} removed")


async def list_prices(coordinator: Coordinator, output: OutputOption = Format.TABLE) -> None:
    """List the prices of a million tokens."""

    async def fetch() -> Answer:
        answer = await coordinator.call(coordinator.admin.ListPrices, ListPricesRequest(), "list the prices")
        return Answer(list(answer.prices), price_table(answer.prices))

    await show_list(fetch, output)


async def set_price(
    coordinator: Coordinator,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The public name.")],
    prompt: Annotated[float, typer.Option(min=0, help="Of a million prompt tokens.")],
    completion: Annotated[float, typer.Option(min=0, help="Of a million completion tokens.")],
    cached: Annotated[
        float | None, typer.Option(min=0, help="Of a million prompt tokens that the engine had cached. Default: full.")
    ] = None,
) -> None:
    """Say what tokens of a model cost from now on.

    In any currency, the same for all models. What was used before keeps its cost.
    """
    price = Price(
        model=model,
        prompt_micros=round(prompt * MICROS),
        completion_micros=round(completion * MICROS),
        cached_micros=None if cached is None else round(cached * MICROS),
    )
    await coordinator.call(coordinator.admin.PutPrice, PutPriceRequest(price=price), f"set the price of {model}")
    Report.on_standard_output().line(f"{model} has its price")


async def remove_price(coordinator: Coordinator, model: Annotated[str, typer.Argument(metavar="MODEL")]) -> None:
    """A model costs nothing from now on."""
    await coordinator.call(
        coordinator.admin.RemovePrice, RemovePriceRequest(model=model), f"remove the price of {model}"
    )
    Report.on_standard_output().line(f"{model} costs nothing")
