"""``studio recipes``."""

from collections.abc import Iterable
from datetime import datetime

from studio.v1.recipe_pb2 import GpuRequest, IntOrAuto, RecipeRevision

from studio_cli import wording
from studio_cli.views.table import Column, Row, Table

COLUMNS = (
    Column("NAME"),
    Column("REVISION"),
    Column("ENGINE"),
    Column("MODEL"),
    Column("GPUS"),
    Column("AGE", ticking=True),
    Column("BY", wide=True),
    Column("DIGEST", wide=True),
)

DIGEST_LETTERS = 12


def recipe_table(recipes: Iterable[RecipeRevision], now: datetime) -> Table:
    """The newest revision of each recipe."""
    rows = tuple(recipe_row(one, now) for one in sorted(recipes, key=lambda one: one.recipe_name))
    return Table(COLUMNS, rows, "there is no recipe: studio apply -f recipe.yaml")


def recipe_row(revision: RecipeRevision, now: datetime) -> Row:
    """One revision."""
    recipe = revision.recipe
    engine = recipe.engine
    return Row(
        revision.recipe_name,
        (
            revision.recipe_name,
            f"r{revision.revision}",
            " ".join(part for part in (engine.name, engine.version or engine.path) if part),
            recipe.model.source or wording.NOTHING,
            describe_request(recipe.resources.gpu),
            wording.age(revision.created_at, now),
            revision.actor,
            revision.digest[:DIGEST_LETTERS],
        ),
    )


def describe_request(request: GpuRequest) -> str:
    """``2 of 24 GiB (H100 or H200)``."""
    count = describe_count(request.count) if request.HasField("count") else "auto"
    words = [f"{wording.share(request.share)} of one" if request.HasField("share") else count]
    memory = request.memory
    if memory.bytes:
        words.append(f"with {wording.size(memory.bytes)}")
    if request.model:
        words.append(f"({' or '.join(request.model)})")
    return " ".join(words)


def describe_count(count: IntOrAuto) -> str:
    """A number, or ``auto``."""
    return str(count.value) if count.WhichOneof("kind") == "value" else "auto"
