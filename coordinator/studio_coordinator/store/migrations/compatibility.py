"""Can the code of the release before go on while, and after, a schema is upgraded? Expand first, contract a release later.

An *expanding* migration adds: tables, indexes, columns that may be NULL or have a default. Code that knows nothing of it writes
and reads as before. A *contracting* one takes away or narrows what older code may still use: it must raise
``schema_info.oldest_code_revision`` to the release before its own, so that still older code refuses to start instead of failing
later; and never above that, for that release is what runs while the upgrade happens.

Judged is what migrations send to a real PostgreSQL, not how they are written. That the release before no longer uses what a
contracting migration takes away is for its author to know, and for that release's tests, run on the new schema, to show.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, event, text

from studio_coordinator.store.migrations import configuration

# Schema revisions that were part of a release, oldest first. Until there is one, no other code runs on any database, and
# migrations may still be changed in place.
RELEASED: tuple[str, ...] = ()

# What is no SQL of the migration's: texts, and comments.
LITERAL = re.compile(r"'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/", re.DOTALL)
NAME = r'(?:IF (?:NOT )?EXISTS )?(?:ONLY )?"?(?:public"?\."?)?(?P<table>\w+)"?'
CREATED = re.compile(rf"^CREATE TABLE {NAME}", re.IGNORECASE)
ALTERED = re.compile(rf"^ALTER TABLE {NAME} (?P<clauses>.*)$", re.IGNORECASE)
TAKES_AWAY = re.compile(rf"^(?:DROP (?!INDEX)\w+|TRUNCATE(?: TABLE)?|CREATE UNIQUE INDEX .*? ON) {NAME}", re.IGNORECASE)
# A list in brackets has commas that part no clauses.
BRACKETS = re.compile(r"\([^()]*\)")
# One clause of ALTER TABLE.
NARROWS = tuple(
    (re.compile(pattern, re.IGNORECASE), what)
    for pattern, what in (
        (r"^DROP (?!CONSTRAINT)", "takes a column away"),
        (r"^RENAME", "renames"),
        (r"^ALTER (?:COLUMN )?\S+ (?:SET DATA )?TYPE", "changes a type"),
        (r"^ALTER (?:COLUMN )?\S+ SET NOT NULL", "forbids NULL"),
        (r"^ALTER (?:COLUMN )?\S+ DROP DEFAULT", "takes a default away"),
        (r"^ADD (?:CONSTRAINT|CHECK|UNIQUE|FOREIGN|PRIMARY)", "adds a constraint"),
        (r"^ADD (?!CONSTRAINT)(?!.*\bDEFAULT\b).*\bNOT NULL\b", "adds a column that needs a value"),
    )
)


@dataclass(frozen=True)
class Step:
    """One migration as it ran: its statements, and the oldest code that may use the schema before and after it."""

    revision: str
    previous: str
    statements: Sequence[str]
    oldest_before: str
    oldest_after: str


def run_steps(connection: Connection, versions: Path | None = None) -> list[Step]:
    """Upgrade an empty database, one migration after the other; also those in the folder ``versions``."""
    config = configuration(connection, versions)
    statements: list[str] = []

    def note(_connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    steps = []
    oldest = ""
    scripts = reversed(list(ScriptDirectory.from_config(config).walk_revisions()))
    for script in scripts:
        event.listen(connection, "before_cursor_execute", note)
        command.upgrade(config, script.revision)
        event.remove(connection, "before_cursor_execute", note)
        after = str(connection.execute(text("SELECT oldest_code_revision FROM schema_info")).scalar_one())
        steps.append(Step(script.revision, str(script.down_revision or ""), tuple(statements), oldest, after))
        statements.clear()
        oldest = after
    return steps


def incompatibilities(steps: Sequence[Step], released: Sequence[str] = RELEASED) -> list[str]:
    """What would break the release before, one line each. The first migration has none before it."""
    return [line for step in steps if step.previous for line in _judge(step, released)]


def _judge(step: Step, released: Sequence[str]) -> Iterator[str]:
    # Where nothing was released since, code of the migration before may be running somewhere.
    before = max((one for one in released if one < step.revision), default=step.previous)
    if step.oldest_after > before:
        yield f"{step.revision} shuts out code of {before}, which runs while it is upgraded (oldest: {step.oldest_after})"
    if step.oldest_after < step.oldest_before:
        yield f"{step.revision} lets code in again that {step.oldest_before} shut out (oldest: {step.oldest_after})"
    narrowing = list(narrowed(step.statements))
    if narrowing and step.oldest_after < before:
        yield (
            f"{step.revision} contracts ({'; '.join(narrowing)}) and must raise schema_info.oldest_code_revision to {before}"
        )


def narrowed(statements: Sequence[str]) -> Iterator[str]:
    """What statements take away from, or ask more of, code that does not know them; new tables are nobody's yet."""
    own: set[str] = set()
    for statement in statements:
        plain = " ".join(LITERAL.sub("''", statement).split())
        if created := CREATED.match(plain):
            own.add(created["table"])
        elif (altered := ALTERED.match(plain)) and altered["table"] not in own:
            for clause in BRACKETS.sub("", altered["clauses"]).split(","):
                told = (f"{what} in {altered['table']}" for pattern, what in NARROWS if pattern.match(clause.strip()))
                yield from told
        elif (taken := TAKES_AWAY.match(plain)) and taken["table"] not in own:
            yield plain[:80]
