"""Tables for people that stay readable on a narrow terminal: what has no room in a row stands below it, with its name. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

_GAP = 2
_WIDEST = 44
"""A column other than the last is shown whole up to this width; below its row each is."""
_LEAST_LAST = 30
"""The last column has this much room, or what its longest cell takes, or stands below; in its room it is folded."""


def lay_out(
    columns: Sequence[str], rows: Sequence[Sequence[str]], width: int, *, right: Sequence[str] = ()
) -> Iterator[RenderableType]:
    """A table of at most `width` columns of a terminal, to print piece by piece; `right` names the columns of numbers.

    Where not all columns have room beside each other, the last of them stand below each row: no cell is ever left out.
    """
    needs = [
        min(max(map(cell_len, (column, *(row[place] for row in rows)))), _WIDEST if place < len(columns) - 1 else _LEAST_LAST)
        for place, column in enumerate(columns)
    ]
    beside = max(1, max(count for count in range(len(needs) + 1) if sum(needs[:count]) + _GAP * (count - 1) <= width))
    if beside == len(columns):
        yield _table(columns, rows, needs, right, is_whole=True)
        return
    yield _table(columns[:beside], [], needs, right)
    for row in rows:
        yield _table(columns[:beside], [row[:beside]], needs, right, has_header=False)
        for line in _below(columns[beside:], row[beside:], width - _GAP):
            yield Padding(line, (0, 0, 0, _GAP), expand=False)


def _table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    widths: Sequence[int],
    right: Sequence[str],
    *,
    is_whole: bool = False,
    has_header: bool = True,
) -> Table:
    """Columns of fixed widths; where the table `is_whole`, the last takes and folds into the room that is left."""
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=has_header)
    for place, column in enumerate(columns):
        folds = is_whole and place == len(columns) - 1
        table.add_column(
            Text(column),
            justify="right" if column in right else "left",
            width=None if folds else widths[place],
            no_wrap=not folds,
            overflow="fold" if folds else "ellipsis",
        )
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _below(names: Sequence[str], cells: Sequence[str], width: int) -> list[Text]:
    """The cells with their names, several on a line where they have room; an empty cell needs no place."""
    lines: list[Text] = []
    for name, cell in zip(names, cells, strict=True):
        if not cell.strip():
            continue
        said = Text.assemble((name, "bold"), " " if name else "", cell.strip(), no_wrap=False, overflow="fold")
        if lines and lines[-1].cell_len + _GAP + said.cell_len <= width:
            lines[-1].append(" " * _GAP).append_text(said)
        else:
            lines.append(said)
    return lines
