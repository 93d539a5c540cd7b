"""Tables as lines of text: the same on a terminal and on a pipe, except for colour.

A row may end early with a note, which takes the place of the columns that have nothing to say and does not widen them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

GAP = "  "

Cell = str | Text


@dataclass(frozen=True)
class Column:
    """A column; a ``wide`` one is shown only where wide output was asked for, a ``ticking`` one changes by the time alone."""

    title: str
    wide: bool = False
    right: bool = False
    ticking: bool = False


@dataclass(frozen=True)
class Row:
    """The cells from the first column on; ``key`` names what the row is about."""

    key: str
    cells: tuple[Cell, ...]
    note: Cell = ""


@dataclass(frozen=True)
class Table:
    """Rows below their columns; ``empty`` is said where there are none."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    empty: str

    def substance(self, row: Row) -> tuple[str, ...]:
        """What a row says apart from the time that passes."""
        told = [str(cell) for column, cell in zip(self.columns, row.cells, strict=False) if not column.ticking]
        return (*told, str(row.note))


def lay_out(table: Table, *, wide: bool) -> list[Text]:
    """The head and one line per row, aligned; no line ends in blanks."""
    head = Row("", tuple(Text(column.title, style="bold") for column in table.columns))
    shown = [index for index, column in enumerate(table.columns) if wide or not column.wide]
    lines = [[as_text(row.cells[index]) for index in shown if index < len(row.cells)] for row in (head, *table.rows)]
    widths = [max(line[place].cell_len for line in lines if place < len(line)) for place in range(len(shown))]
    rights = [table.columns[index].right for index in shown]
    return [
        aligned(line, widths, rights, as_text(row.note)) for line, row in zip(lines, (head, *table.rows), strict=True)
    ]


def aligned(cells: Sequence[Text], widths: Sequence[int], rights: Sequence[bool], note: Text) -> Text:
    """One line."""
    line = Text()
    for place, cell in enumerate(cells):
        blanks = " " * (widths[place] - cell.cell_len)
        line.append(GAP if place else "")
        line.append_text(Text(blanks) + cell if rights[place] else cell + Text(blanks))
    if note:
        line.append(GAP)
        line.append_text(note)
    line.rstrip()
    return line


def as_text(cell: Cell) -> Text:
    """``cell`` with its style, if it has one."""
    return Text(cell) if isinstance(cell, str) else cell.copy()
