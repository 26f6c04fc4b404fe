from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture.messages import Message
from curate.cleaning.language import is_foreign


def user(text: str) -> tuple[Message, ...]:
    return (Message("system", "Du sortierst Briefe in Fächer und antwortest auf Deutsch."), Message("user", text))


@pytest.mark.parametrize(
    ("text", "languages", "is_wrong"),
    [
        ("Where is the parcel that I ordered two weeks ago?", "en", False),
        ("Wo ist das Paket, das ich vor zwei Wochen bestellt habe?", "en", True),
        ("Wo ist das Paket, das ich vor zwei Wochen bestellt habe?", "en, de", False),
        ("¿Dónde está el paquete que pedí hace dos semanas?", "en,de", True),
        ("二週間前に注文した荷物はどこにありますか", "en", True),
        ("二週間前に注文した荷物はどこにありますか", "ja", False),
        ("Wo ist das Paket, das ich vor zwei Wochen bestellt habe?", "", False),
        ("Paket?", "en", False),
        ('{"frage": "Wo ist das Paket, das ich bestellt habe?"}', "en", False),
        ("```\nder_wert = gib_den_wert_der_liste(zurueck)\n```", "en", False),
        ("12 345,00 / 17 220,00 / 18 000,00 / 19 500,00 EUR", "en", False),
    ],
)
def test_only_prose_that_is_surely_in_another_language_is_foreign(text: str, languages: str, is_wrong: bool) -> None:
    assert is_foreign(user(text), languages) is is_wrong


def test_the_last_prose_of_the_user_is_judged() -> None:
    german = Message("user", "Wo ist das Paket, das ich vor zwei Wochen bestellt habe?")
    english = Message("user", "And when will the second parcel be delivered to me?")
    answer = Message("assistant", "Es liegt in der Filiale am Markt und wartet auf Sie.")
    assert not is_foreign((german, answer, english), "en")
    assert is_foreign((english, answer, german), "en")
    assert is_foreign((german, answer, Message("user", "OK")), "en")


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=200))
def test_any_text_gets_a_verdict_and_short_ones_the_benefit_of_the_doubt(text: str) -> None:
    is_wrong = is_foreign((Message("user", text),), "en")
    assert not (is_wrong and len(text) < 7)
