"""How an answer is written: as a table, or as data for scripts; once, or again and again while it changes."""

import asyncio
import csv
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import yaml
from google.protobuf.message import Message
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text
from studio_runtime.errors import UnavailableError

from studio_cli.views.plain import plain
from studio_cli.views.table import Table, lay_out

WATCH_SECONDS = 1.0


class Format(StrEnum):
    """How an answer is written."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"

    @property
    def is_data(self) -> bool:
        """Whether it is for a script."""
        return self in (Format.JSON, Format.YAML)


@dataclass(frozen=True)
class Answer:
    """What was asked for: the messages, and the table that shows them."""

    items: Sequence[Message]
    table: Table


Fetch = Callable[[], Awaitable[Answer]]


async def show_list(fetch: Fetch, output: Format, *, watch: bool = False) -> None:
    """Write what ``fetch`` brings; with ``watch`` until interrupted."""
    if not watch:
        write_answer(await fetch(), output)
    elif output.is_data or not sys.stdout.isatty():
        await watch_lines(fetch, output)
    else:
        await watch_live(fetch, output)


def write_answer(answer: Answer, output: Format) -> None:
    """Write one answer."""
    if output.is_data:
        write_data([plain(item) for item in answer.items], output)
    elif answer.table.rows:
        write_lines(lay_out(answer.table, wide=output is Format.WIDE))
    else:
        # Not on standard output: a script that counts lines counts none.
        Console(stderr=True).print(answer.table.empty, markup=False, highlight=False, soft_wrap=True)


def write_item(item: Message, lines: Callable[[], Sequence[str | Text]], output: Format) -> None:
    """Write one thing: its data, or the lines that tell about it."""
    if output.is_data:
        write_data(plain(item), output)
    else:
        write_lines(lines())


def write_lines(lines: Sequence[str | Text]) -> None:
    """Write lines as they are; a terminal breaks those that are too long."""
    console = Console()
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def write_data(data: Any, output: Format) -> None:
    """Write a document."""
    if output is Format.YAML:
        sys.stdout.write(yaml.safe_dump(data, sort_keys=False, allow_unicode=True))
    else:
        sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def write_csv(answer: Answer) -> None:
    """Write one line for each item, every field of it a column; one that is absent stays empty."""
    rows = [plain(item) for item in answer.items]
    kinds = {item.DESCRIPTOR: None for item in answer.items}
    names = [field.name for kind in kinds for field in kind.fields]
    writer = csv.DictWriter(sys.stdout, names, restval="")
    writer.writeheader()
    writer.writerows(rows)


async def watch_live(fetch: Fetch, output: Format) -> None:
    """Keep one table true on the terminal, through absences of the coordinator."""
    console = Console()
    lines: list[Text] = []
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            footer: list[Text] = []
            try:
                answer = await fetch()
                lines = (
                    lay_out(answer.table, wide=output is Format.WIDE)
                    if answer.table.rows
                    else [Text(answer.table.empty)]
                )
            except UnavailableError as error:
                footer = [Text(f"{datetime.now(UTC).astimezone():%H:%M:%S}  {error.message}", style="yellow")]
            for line in lines:
                # A line that wraps would make the picture jump.
                line.truncate(console.width, overflow="ellipsis")
            live.update(Group(*lines, *footer), refresh=True)
            await asyncio.sleep(WATCH_SECONDS)


async def watch_lines(fetch: Fetch, output: Format) -> None:
    """Write each row, or each item as one line of JSON or one document of YAML, when it is new or has changed."""
    known: dict[str, object] = {}
    headed = output.is_data
    absence = ""
    while True:
        try:
            answer = await fetch()
        except UnavailableError as error:
            if error.message != absence:
                absence = error.message
                sys.stderr.write(f"{absence}; trying again\n")
        else:
            absence = ""
            head, *lines = rows_of(answer, output)
            if lines and not headed:
                sys.stdout.write(head.text + "\n")
                headed = True
            for line in lines:
                if known.get(line.key) != line.substance:
                    sys.stdout.write(line.text + "\n")
            sys.stdout.flush()
            known = {line.key: line.substance for line in lines}
        await asyncio.sleep(WATCH_SECONDS)


@dataclass(frozen=True)
class Line:
    """A line to write when the ``substance`` of what ``key`` names has changed."""

    key: str
    text: str
    substance: object


def rows_of(answer: Answer, output: Format) -> list[Line]:
    """The head, then a line for each row or item."""
    if output.is_data:
        texts = [data_line(item, output) for item in answer.items]
        return [Line("", "", ""), *(Line(str(place), text, text) for place, text in enumerate(texts))]
    head, *rows = (line.plain for line in lay_out(answer.table, wide=output is Format.WIDE))
    lines = [
        Line(row.key, text, answer.table.substance(row)) for row, text in zip(answer.table.rows, rows, strict=True)
    ]
    return [Line("", head, ""), *lines]


def data_line(item: Message, output: Format) -> str:
    """An item by itself in a stream of items."""
    if output is Format.YAML:
        return "---\n" + yaml.safe_dump(plain(item), sort_keys=False, allow_unicode=True).rstrip("\n")
    return json.dumps(plain(item), ensure_ascii=False)
