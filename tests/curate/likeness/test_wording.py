from __future__ import annotations

import pytest

from curate.likeness.wording import critical, mask, normalise


def test_volatile_parts_are_masked_and_plain_numbers_are_not() -> None:
    text = "Session b2a8b104-c4b0-e5b5-af91-5b0312f3bcac at 2026-03-14T10:20:33Z, order A-1234567, 3 chairs for 49.90"
    assert mask(text) == "Session §u at §t, order §i, 3 chairs for 49.90"


@pytest.mark.parametrize("other", ["WHERE is my parcel", "Where  is\nmy parcel?!", "Where is my “parcel”..."])
def test_case_space_and_punctuation_do_not_count(other: str) -> None:
    assert normalise(other) == normalise("Where is my parcel?")


def test_text_without_words_stays_itself() -> None:
    assert normalise(" ?? ") == "??"
    assert normalise("") == ""


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Pay 12 euros", "Pay 13 euros"),
        ("It is 1.5 m", "It is 15 m"),
        ("I can log in", "I cannot log in"),
        ("It works", "It doesn’t work"),
        ("Ich kann mich anmelden", "Ich kann mich nicht anmelden"),
        ("Je veux être appelé", "Je ne veux pas être appelé"),
        ("Puedo entrar en mi cuenta", "Nunca puedo entrar en mi cuenta"),
        ("Voglio il rimborso", "Non voglio il rimborso"),
        ("Consigo entrar na conta", "Não consigo entrar na conta"),
        ("Não consigo", "Na\u0303o consigo nem entrar"),
        ("Ik kan inloggen", "Ik kan niet inloggen"),
    ],
)
def test_numbers_and_negations_are_critical(left: str, right: str) -> None:
    assert critical(left) != critical(right)


def test_the_order_of_numbers_is_not_critical() -> None:
    assert critical("from 3 to 5, not 7") == critical("not 7: 5 to 3")


def test_what_two_languages_say_without_negating_is_not_critical() -> None:
    assert critical("ne voglio due") == critical("voglio due")
    assert critical("Na\u0303o sei") == critical("Não sei")


def test_a_uuid_without_a_digit_is_masked() -> None:
    assert mask("see deadbeef-dead-beef-cafe-deadbeefcafe now") == "see §u now"
