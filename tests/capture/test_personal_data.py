from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.personal_data import find, find_all, iban_holds, luhn_holds, pseudonymise

LABELLED = Path(__file__).parents[3] / "shared" / "data" / "datasets" / "pii_synth_presidio.json"
KINDS = {
    "EMAIL_ADDRESS": "email",
    "CREDIT_CARD": "card",
    "IBAN_CODE": "iban",
    "IP_ADDRESS": "ip",
    "PHONE_NUMBER": "phone",
    "US_SSN": "ssn",
}


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
        ("Phone: 467 3395", "phone"),
        ('{"phone_number": "5551234567"}', "phone"),
        ("They are not answering at 71-33-52-22", "phone"),
        ("Mr Smith\n781 1704 office\n", "phone"),
        ("(37) 788-063", "phone"),
        ("Handy: 0170/1234567", "phone"),
        ("my credit card number is 675984103431", "card"),
        ("Here is my SSN: 849-66-3189", "ssn"),
        ("my social security number is 849 66 3189", "ssn"),
        ("054-28-6917", "ssn"),
        ("device 00:1B:44:11:3A:B7 is offline", "mac"),
        ("she was born on 8/5/1989 in Bern", "birth_date"),
        ('{"dob": "1977-02-03"}', "birth_date"),
        ("Geburtsdatum: 03.02.1977", "birth_date"),
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
        "order number 123-45-6789",
        "666-12-3456 and 912-12-3456 and 123-00-4567",
        "the phone costs 1999 and came on 2026-03-14",
        "call me on 2026-03-14",
        "phone model 12345678",
        "automobile 1234567",
        "transaction 675984103431",
        "10:20:30:40:50:60 and 01-02-03-04-05-06",
        "founded on 8/5/1989",
        "f(37) 788-063",
        "v1.2.3-456.7890 of 12.345.678 items at 1,234,567.89",
    ],
)
def test_what_only_looks_like_a_datum_is_left_alone(text: str) -> None:
    assert find(text) == []


def test_the_same_datum_gets_the_same_token_in_prompt_and_target() -> None:
    texts, counts = pseudonymise(["I am a@x.org, not b@x.org", "Dear A@x.org, call +49 170 1234567", "no data"])
    assert texts == ["I am <EMAIL_1>, not <EMAIL_2>", "Dear <EMAIL_1>, call <PHONE_1>", "no data"]
    assert counts == {"email": 2, "phone": 1}


def test_what_one_text_calls_a_phone_number_or_a_birth_date_is_one_in_the_others_too() -> None:
    texts, counts = pseudonymise(["Call me at 472 3395. DOB: 1977-02-03", '{"to": "472 3395", "day": "1977-02-03"}', "1472 3395"])
    assert texts == ["Call me at <PHONE_1>. DOB: <BIRTH_DATE_1>", '{"to": "<PHONE_1>", "day": "<BIRTH_DATE_1>"}', "1472 3395"]
    assert counts == {"phone": 1, "birth_date": 1}


_PIECES = st.sampled_from(
    [
        "phone ",
        "card ",
        "born ",
        "ssn ",
        "a@b.org",
        "472 3395",
        "4111 1111 1111 1111",
        "8/5/1989",
        "849-66-3189",
        " office\n",
        "+49 ",
    ]
)


@given(st.lists(st.lists(st.one_of(_PIECES, st.text(max_size=3)), max_size=8).map("".join), max_size=3))
def test_whatever_is_found_stays_in_its_place_and_nothing_else_changes(texts: list[str]) -> None:
    out, counts = pseudonymise(texts)
    for text, changed, of_text in zip(texts, out, find_all(texts), strict=True):
        ends = [0, *(finding.end for finding in of_text)]
        assert all(end <= finding.start < finding.end for end, finding in zip(ends, of_text, strict=False))
        kept = [text[end:start] for end, start in zip(ends, [*(one.start for one in of_text), len(text)], strict=True)]
        assert re.fullmatch("<[A-Z_]+_[0-9]+>".join(map(re.escape, kept)), changed)
    assert sum(counts.values()) == len({(one.kind, one.value) for of_text in find_all(texts) for one in of_text})


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


def test_recall_and_false_alarms_on_labelled_text_that_the_patterns_were_not_made_for() -> None:
    """The second half of the file; the first was read while the patterns were written."""
    if not LABELLED.is_file():
        pytest.skip("labelled personal data is not in ../shared/data")
    rows = json.loads(LABELLED.read_text("utf-8"))
    total, hit, false_alarms = Counter[str](), Counter[str](), 0
    for row in rows[len(rows) // 2 :]:
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
    assert recall["email"] == recall["iban"] == recall["ip"] == recall["ssn"] == recall["card"] == 1
    assert recall["phone"] >= 0.9  # groups of digits that nothing calls a phone number are no proof
    assert false_alarms == 0
