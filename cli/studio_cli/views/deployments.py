"""``studio deployments``."""

from collections.abc import Iterable
from datetime import datetime

from studio.v1.deployment_pb2 import Deployment, DeploymentSpec

from studio_cli import wording
from studio_cli.views.states import deployment_state, styled
from studio_cli.views.table import Column, Row, Table

COLUMNS = (
    Column("NAME"),
    Column("RECIPE"),
    Column("STATE"),
    Column("READY", right=True),
    Column("RANGE"),
    Column("PRIORITY", right=True),
    Column("AGE", ticking=True),
    Column("CHANGED", wide=True, ticking=True),
    Column("BY", wide=True),
    Column("ALIASES", wide=True),
    Column("WHY"),
)


def deployment_table(deployments: Iterable[Deployment], now: datetime) -> Table:
    """All ``deployments`` by name."""
    rows = tuple(deployment_row(one, now) for one in sorted(deployments, key=lambda one: one.name))
    return Table(COLUMNS, rows, "there is no deployment: studio apply -f recipe.yaml")


def deployment_row(deployment: Deployment, now: datetime) -> Row:
    """One deployment."""
    spec = deployment.spec
    return Row(
        deployment.name,
        (
            deployment.name,
            f"{spec.recipe} r{deployment.target_revision}",
            styled(deployment_state(deployment)),
            f"{deployment.ready_replicas}/{deployment.wanted_replicas}",
            describe_range(spec),
            str(spec.priority),
            wording.age(deployment.created_at, now),
            wording.age(deployment.updated_at, now),
            deployment.actor,
            ",".join(spec.aliases) or wording.NOTHING,
            deployment.state_reason,
        ),
    )


def describe_range(spec: DeploymentSpec) -> str:
    """``1`` or ``0 to 3`` replicas, as the contract fills in what is not written."""
    least = spec.replicas.min if spec.replicas.HasField("min") else 1
    most = spec.replicas.max if spec.replicas.HasField("max") else max(least, 1)
    return str(least) if least == most else f"{least} to {most}"
