"""Tables stay readable on a narrow terminal: no column is lost, no line is longer than the terminal is wide."""

from __future__ import annotations

import io
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from potstill.output import Output
from potstill.tables import lay_out

COLUMNS = ("", "N", "TEACHER", "NEWEST", "EXCHANGE", "ANSWER")
ROWS = [
    ("keeps", 2, "import:intents (2)", "2026-11-22T19:38:51.894Z", "ex_0000000000fxhred3wn0ygaey4", "top_up_by_cash_or_cheque"),
    ("", 1, "gpt-4o (1)", "2026-11-22T19:38:51.894Z", "ex_0000000000ehpv1ezp82113myp", "topping_up_by_card " * 6),
]


def at_80_columns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *table: object, right: object = ()) -> str:
    """What a terminal of 80 columns shows of a table, without colours."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    Output().table(*table, right=right)  # type: ignore[arg-type]
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().out)
    assert max(map(len, shown.splitlines())) <= 80
    return shown


def test_columns_without_room_stand_below_their_row_with_their_names(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = at_80_columns(monkeypatch, capsys, COLUMNS, ROWS, right=("N",)).splitlines()
    assert [line.rstrip() for line in shown] == [
        "       N  TEACHER             NEWEST",
        "keeps  2  import:intents (2)  2026-11-22T19:38:51.894Z",
        "  EXCHANGE ex_0000000000fxhred3wn0ygaey4  ANSWER top_up_by_cash_or_cheque",
        "       1  gpt-4o (1)          2026-11-22T19:38:51.894Z",
        "  EXCHANGE ex_0000000000ehpv1ezp82113myp",
        "  ANSWER topping_up_by_card topping_up_by_card topping_up_by_card",
        "  topping_up_by_card topping_up_by_card topping_up_by_card",
    ]


def test_a_table_that_fits_is_one_line_a_row_and_folds_its_last_column(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [("store", "ok", "SQLite"), ("relay", "note", "not up, and so on " * 5)]
    shown = at_80_columns(monkeypatch, capsys, ("CHECK", "VERDICT", "WHAT"), rows).splitlines()
    assert [line.rstrip() for line in shown] == [
        "CHECK  VERDICT  WHAT",
        "store  ok       SQLite",
        "relay  note     not up, and so on not up, and so on not up, and so on not up,",
        "                and so on not up, and so on",
    ]


def test_an_empty_table_shows_its_header(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert at_80_columns(monkeypatch, capsys, ("FILE", "FORMAT"), []).split() == ["FILE", "FORMAT"]


CELLS = st.text(st.sampled_from("abc語é_"), max_size=36)


@given(
    rows=st.integers(1, 9).flatmap(
        lambda count: st.lists(st.lists(CELLS, min_size=count, max_size=count), min_size=1, max_size=4)
    ),
    width=st.integers(50, 120),
)
def test_every_cell_is_shown_at_every_width(rows: list[list[str]], width: int) -> None:
    console = Console(width=width, file=io.StringIO(), soft_wrap=True)
    with console.capture() as capture:
        for part in lay_out([f"C{place}" for place in range(len(rows[0]))], rows, width):
            console.print(part)
    lines = capture.get().splitlines()
    assert max(map(cell_len, lines)) <= width
    letters = "".join("".join(lines).split())
    assert all(cell in letters for row in rows for cell in row)
