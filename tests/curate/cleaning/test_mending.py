from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.cleaning.mending import mend


def wrongly_decoded(text: str) -> str:
    return text.encode().decode("cp1252")


@pytest.mark.parametrize("meant", ["I don’t know", "naïve café, Zürich", "‘yes’ – it’s fine…", "Le déjeuner est prêt"])
def test_text_that_was_decoded_wrongly_is_mended(meant: str) -> None:
    assert wrongly_decoded(meant) != meant
    assert mend(wrongly_decoded(meant)) == meant


def test_a_line_is_mended_beside_letters_of_another_alphabet() -> None:
    assert mend(f"前のページ\n{wrongly_decoded('I don’t know')}") == "前のページ\nI don’t know"


@pytest.mark.parametrize(
    "text",
    [
        "plain words",
        "Straße, “quoted”, ﬁne, &amp; ＡＢＣ",
        '{"said": "I donâ€™t know"}',
        '["â€™"]',
        "```python\nx = 'donâ€™t'\n```",
        "naïve café – Ωmega, Ünïcode, 漢字",
    ],
)
def test_what_is_whole_or_data_or_code_stays(text: str) -> None:
    assert mend(text) == text


def test_prose_around_code_is_mended() -> None:
    assert mend("I donâ€™t\n```\nâ€™\n```\ndonâ€™t") == "I don’t\n```\nâ€™\n```\ndon’t"


@given(st.text(alphabet=st.characters(max_codepoint=0x7F)))
def test_ascii_is_never_touched(text: str) -> None:
    assert mend(text) is text


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=80))
def test_mending_keeps_the_lines_and_breaks_nothing_else(text: str) -> None:
    mended = mend(text)
    assert mended.count("\n") == text.count("\n")
    assert mended.isascii() or not text.isascii()
