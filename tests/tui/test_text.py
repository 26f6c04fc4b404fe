"""Captured text on a screen: nothing in it acts, nothing overflows, every cut is marked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tui.text import MAX_SHOWN, encodable, fit, one_line, pad, safe, wrap

ANYTHING = st.text(alphabet=st.characters(), max_size=60)
HOSTILE = [
    "\x1b[2J\x1b[1;1Hgone",
    "\x1b]52;c;ZXZpbA==\x07",
    "a\x00b\x7fc\x9bd",
    "[bold red]not markup[/] [link=x]y[/link]",
    "‮evil‬ ⁦x⁩",
    "👨‍👩‍👧‍👦 👍🏽 🇩🇪 ❤️ ☺︎",
    "\ud800 lone \udfff",
    "z" + "\u0301" * 500,
    "مرحبا שלום",
    "\u200b\u200b\ufeff\u00ad",
    "\U000e0041\U000e0042 tags",
    "\r\n\r\x0b\x0c\x85\u2028\u2029",
    "क्षत्रिय 가나다 ﷽",
]


@given(ANYTHING)
def test_safe_text_has_only_printable_characters_and_newlines(text: str) -> None:
    assert all(character.isprintable() or character == "\n" for character in safe(text))


@given(ANYTHING | st.sampled_from(HOSTILE), st.integers(1, 40), st.booleans())
def test_a_padded_text_fills_exactly_its_cells(text: str, cells: int, is_right: bool) -> None:
    assert cell_len(pad(text, cells, is_right)) == cells
    assert "\n" not in pad(text, cells, is_right)


@given(ANYTHING | st.sampled_from(HOSTILE), st.integers(2, 40), st.integers(0, 4))
def test_wrapped_lines_never_exceed_their_cells(text: str, cells: int, max_lines: int) -> None:
    lines = wrap(text, cells, max_lines)
    assert all(cell_len(line) <= cells for line in lines)
    assert not max_lines or len(lines) <= max_lines


@given(st.text(alphabet="ab c\n", max_size=80), st.integers(2, 20))
def test_wrapping_keeps_every_word_character(text: str, cells: int) -> None:
    assert "".join(wrap(text, cells)).replace(" ", "") == text.replace("\n", "").replace(" ", "")


@given(st.lists(ANYTHING, max_size=4), st.integers(1, 60))
def test_a_fitted_line_fills_exactly_its_cells(parts: list[str], cells: int) -> None:
    line = " ".join(pad(part, 7) for part in parts)
    assert cell_len(fit(line, cells)) == cells


def test_an_escape_sequence_is_shown_not_obeyed() -> None:
    assert safe("\x1b[31mred") == "␛[31mred"


def test_marks_that_reverse_or_hide_text_are_shown_by_number() -> None:
    assert safe("pay\u202eevil") == "pay<202e>evil"
    assert safe("\U000e0041") == "<e0041>"


def test_a_lone_surrogate_cannot_break_the_terminal() -> None:
    safe("a\ud800b").encode("utf-8")
    encodable("a\ud800b").encode("utf-8")


def test_marks_piled_on_one_letter_are_limited() -> None:
    assert len(safe("z" + "\u0301" * 500)) <= 3


@pytest.mark.parametrize(
    ("text", "cells", "expected"),
    [
        ("short", 8, "short"),
        ("longer text", 8, "longer …"),
        ("two\nlines", 20, "two⏎lines"),
        ("加加加加", 5, "加加…"),
        ("x", 0, ""),
    ],
)
def test_one_line_marks_what_it_leaves_out(text: str, cells: int, expected: str) -> None:
    assert one_line(text, cells) == expected


def test_words_break_at_blanks() -> None:
    assert wrap("the quick brown fox", 10) == ["the quick", "brown fox"]


def test_lines_beyond_the_limit_are_marked() -> None:
    assert wrap("one\ntwo\nthree", 10, 2) == ["one", "two…"]


def test_a_megabyte_on_one_line_is_cut_with_a_word_about_it() -> None:
    lines = wrap("x" * 1_000_000, 80)
    assert lines[-1] == f"… {1_000_000 - MAX_SHOWN:,} more characters"
    assert len(lines) <= MAX_SHOWN // 80 + 2
    assert len(one_line("x" * 1_000_000, 80)) == 80
