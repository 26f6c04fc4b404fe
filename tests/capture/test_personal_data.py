from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.personal_data import find, iban_holds, luhn_holds, pseudonymise

LABELLED = Path(__file__).parents[3] / "shared" / "data" / "datasets" / "pii_synth_presidio.json"
KINDS = {"EMAIL_ADDRESS": "email", "CREDIT_CARD": "card", "IBAN_CODE": "iban", "IP_ADDRESS": "ip", "PHONE_NUMBER": "phone"}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("mail anna.b+x@mail.example.org please", "email"),
        ("call +49 170 1234567 now", "phone"),
        ("call 780-999-2181.", "phone"),
        ("0490 75 40 81 is my number", "phone"),
        ("card 4111 1111 1111 1111", "card"),
        ("IBAN DE89 3704 0044 0532 0130 00 and more words", "iban"),
        ("gb82west12345698765432", "iban"),
        ("from 203.0.113.7 today", "ip"),
        ("from 2001:db8::ff00:42:8329 today", "ip"),
    ],
)
def test_a_provable_datum_is_found(text: str, kind: str) -> None:
    assert [finding.kind for finding in find(text)] == [kind]


@pytest.mark.parametrize(
    "text",
    [
        "Ticket #88245 (phone, Fri 10:38)",
        "order no 37629 of 2026-03-14 12:33:10",
        "card 4111 1111 1111 1112",
        "IBAN DE88 3704 0044 0532 0130 00",
        "ORD-123-456-7890",
        "version 10.2.3 and 999.1.1.1",
        "std::a::b at 12:30:45",
        "the @ sign, a@b",
        "1234567890",
        "127.0.0.1",
    ],
)
def test_what_only_looks_like_a_datum_is_left_alone(text: str) -> None:
    assert find(text) == []


def test_the_same_datum_gets_the_same_token_in_prompt_and_target() -> None:
    texts, counts = pseudonymise(["I am a@x.org, not b@x.org", "Dear A@x.org, call +49 170 1234567", "no data"])
    assert texts == ["I am <EMAIL_1>, not <EMAIL_2>", "Dear <EMAIL_1>, call <PHONE_1>", "no data"]
    assert counts == {"email": 2, "phone": 1}


@given(st.lists(st.text(), max_size=4))
def test_pseudonymising_twice_changes_nothing_more(texts: list[str]) -> None:
    once, _ = pseudonymise(texts)
    assert pseudonymise(once) == (once, {})


@given(st.integers(10**14, 10**18))
def test_exactly_one_last_digit_passes_the_luhn_check(number: int) -> None:
    assert sum(luhn_holds(f"{number}{digit}") for digit in range(10)) == 1


def test_a_changed_letter_breaks_an_iban() -> None:
    assert iban_holds("GB82WEST12345698765432")
    assert not iban_holds("GB82WEST12345698765423")


def test_recall_and_false_alarms_on_labelled_text() -> None:
    if not LABELLED.is_file():
        pytest.skip("labelled personal data is not in ../shared/data")
    total, hit, false_alarms = Counter[str](), Counter[str](), 0
    for row in json.loads(LABELLED.read_text("utf-8")):
        found = find(row["full_text"])
        explained = set()
        for span in row["spans"]:
            over = {one for one in found if one.start < span["end_position"] and one.end > span["start_position"]}
            explained |= over
            kind = KINDS.get(span["entity_type"])
            if kind:
                total[kind] += 1
                hit[kind] += any(one.kind == kind for one in over)
        false_alarms += len(set(found) - explained)
    recall = {kind: hit[kind] / total[kind] for kind in total}
    assert recall["email"] == recall["iban"] == recall["ip"] == 1
    assert recall["card"] >= 0.9
    assert recall["phone"] >= 0.5  # bare digit groups are not proof
    assert false_alarms <= 2
