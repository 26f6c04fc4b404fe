from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from curate.cleaning import hiding
from curate.settings import CurateSettings


def hide(texts: list[str]) -> tuple[list[str], dict[str, int]]:
    return hiding.hide(texts, CurateSettings())


def test_the_same_datum_has_the_same_token_in_prose_and_in_arguments() -> None:
    texts, counts = hide(["I am ann@x.org", '{"to": "ann@x.org", "cc": "bob@x.org"}'])
    assert texts == ["I am <EMAIL_1>", '{"to": "<EMAIL_1>", "cc": "<EMAIL_2>"}']
    assert counts == {"email": 2}


def test_arguments_stay_valid_where_a_datum_touches_an_escape() -> None:
    texts, _ = hide(['{"text": "Dear\\nann@x.org\\tBye"}'])
    assert json.loads(texts[0]) == {"text": "Dear\n<EMAIL_1>\tBye"}


def test_a_datum_in_escapes_is_found_too() -> None:
    texts, counts = hide(['{"to": "ann\\u0040x.org"}', "prose"])
    assert (json.loads(texts[0]), texts[1], counts) == ({"to": "<EMAIL_1>"}, "prose", {"email": 1})


def test_a_bare_number_becomes_a_string() -> None:
    texts, counts = hide(['{"card": 4111111111111111, "n": 7}'])
    assert json.loads(texts[0]) == {"card": "<CARD_1>", "n": 7}
    assert counts == {"card": 1}


def test_text_that_only_begins_like_json_is_prose() -> None:
    assert hide(["[mail](ann@x.org) \\ "])[0] == ["[mail](<EMAIL_1>) \\ "]


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=6),
        st.sampled_from(["ann@x.org", "\nann@x.org", "x\\ann@x.org", '"', "+49 30 901820 55", "ü@x"]),
        max_size=5,
    )
)
def test_json_stays_json_with_the_same_members(value: dict[str, str]) -> None:
    texts, _ = hide([json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)])
    for text in texts:
        assert json.loads(text).keys() == value.keys()
        assert "ann@x.org" not in text
