"""``studio recipes``."""

from collections.abc import Iterable
from datetime import datetime

from studio.v1.admin_service_pb2 import ConvertedField
from studio.v1.recipe_pb2 import EngineChoice, GpuRequest, IntOrAuto, RecipeRevision

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

HISTORY_COLUMNS = (
    Column("REVISION"),
    Column("ENGINE"),
    Column("MODEL"),
    Column("AGE", ticking=True),
    Column("BY"),
    Column("DIGEST"),
)
CONVERSION_COLUMNS = (Column("RECIPE"), Column("FIELD"), Column("OUTCOME"), Column("BECAME"), Column("NOTE"))

DIGEST_LETTERS = 12


def recipe_table(recipes: Iterable[RecipeRevision], now: datetime) -> Table:
    """The newest revision of each recipe."""
    rows = tuple(recipe_row(one, now) for one in sorted(recipes, key=lambda one: one.recipe_name))
    return Table(COLUMNS, rows, "there is no recipe: studio apply -f recipe.yaml")


def recipe_row(revision: RecipeRevision, now: datetime) -> Row:
    """One revision."""
    recipe = revision.recipe
    return Row(
        revision.recipe_name,
        (
            revision.recipe_name,
            f"r{revision.revision}",
            describe_engine(recipe.engine),
            recipe.model.source or wording.NOTHING,
            describe_request(recipe.resources.gpu),
            wording.age(revision.created_at, now),
            revision.actor,
            revision.digest[:DIGEST_LETTERS],
        ),
    )


def history_table(revisions: Iterable[RecipeRevision], now: datetime) -> Table:
    """The revisions of one recipe, as they come: newest first."""
    rows = tuple(
        Row(
            str(one.revision),
            (
                f"r{one.revision}",
                describe_engine(one.recipe.engine),
                one.recipe.model.source or wording.NOTHING,
                wording.age(one.created_at, now),
                one.actor,
                one.digest[:DIGEST_LETTERS],
            ),
        )
        for one in revisions
    )
    return Table(HISTORY_COLUMNS, rows, "there is no revision")


def conversion_table(report: Iterable[ConvertedField]) -> Table:
    """What became of the fields of upstream's recipes."""
    rows = tuple(
        Row(
            f"{one.recipe}/{one.field}",
            (
                one.recipe,
                one.field,
                ConvertedField.Outcome.Name(one.outcome).removeprefix("OUTCOME_").lower(),
                one.became or wording.NOTHING,
                one.note,
            ),
        )
        for one in report
    )
    return Table(CONVERSION_COLUMNS, rows, "nothing was said")


def describe_engine(engine: EngineChoice) -> str:
    """``vllm 0.33.0``; a path where there is one."""
    return " ".join(part for part in (engine.name, engine.version or engine.path) if part)


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
