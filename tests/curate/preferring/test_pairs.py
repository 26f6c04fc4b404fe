from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture.messages import Message, ToolCall
from curate.doubting.sameness import answer_key
from curate.preferring.pairs import STRENGTH, Evidence, Rival, Scored, make_pairs
from curate.preferring.preferences import AB, BEST_OF_N, EDIT, IMPORTED, REJECTION, Preference

LONG = "Thank you for your mail. We look into it at once and come back to you within the day."
GRUFF = "We got your mail and there is nothing to be done about it before next week, be patient."


def said(text: str) -> Message:
    return Message("assistant", text)


BASE = Evidence("ex_1", (Message("user", "where is it"),), answer=said("billing"))


def rival(opinion: float | None, teacher: float | None = None, *, yes_or_no: bool = True, person: bool = False) -> Rival:
    return Rival("ex_9", said("account"), opinion, teacher, yes_or_no, person)


def pairs(*evidence: Evidence) -> list[Preference]:
    return list(make_pairs("mail", evidence).pairs)


def sides(pair: Preference) -> tuple[str, str, str]:
    return pair.source, pair.chosen.text, pair.rejected.text


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        (replace(BASE, edit=said("parcel")), (EDIT, "parcel", "billing")),
        (replace(BASE, demonstration=said("parcel")), (EDIT, "parcel", "billing")),
        (replace(BASE, demonstration=said("parcel"), is_rejected=True), (REJECTION, "parcel", "billing")),
        (replace(BASE, relabel=said("parcel"), is_rejected=True), (REJECTION, "parcel", "billing")),
        (replace(BASE, demonstration=said("parcel"), is_imported=True), (IMPORTED, "parcel", "billing")),
        (replace(BASE, rivals=(rival(0.0),)), (AB, "billing", "account")),
        (replace(BASE, rivals=(rival(0.5, 1.0),)), (AB, "billing", "account")),
        (replace(BASE, rivals=(rival(2.0, 4.0, yes_or_no=False),)), (AB, "billing", "account")),
        (replace(BASE, rivals=(rival(1.0, 0.0, person=True),)), (AB, "account", "billing")),
        (
            replace(BASE, scored=(Scored(said("parcel"), 9), Scored(said("billing"), 6), Scored(said("account"), 4))),
            (BEST_OF_N, "parcel", "account"),
        ),
    ],
)
def test_who_preferred_decides_the_sides(evidence: Evidence, expected: tuple[str, str, str]) -> None:
    (pair,) = pairs(evidence)
    assert sides(pair) == expected
    assert (pair.exchange_id, pair.task, pair.messages) == ("ex_1", "mail", BASE.messages)


@pytest.mark.parametrize(
    "evidence",
    [
        BASE,
        replace(BASE, is_rejected=True),
        replace(BASE, relabel=said("parcel")),
        replace(BASE, answer=None, edit=said("parcel")),
        replace(BASE, rivals=(rival(None),)),
        replace(BASE, rivals=(rival(1.0),)),
        replace(BASE, rivals=(rival(3.0, yes_or_no=False),)),
        replace(BASE, rivals=(rival(1.0, 1.0),)),
        replace(BASE, rivals=(rival(1.0, 0.0),)),
        replace(BASE, scored=(Scored(said("parcel"), 9),)),
        replace(BASE, scored=(Scored(said("parcel"), 9), Scored(said("account"), 7.5))),
    ],
    ids=[
        "nothing", "rejected, nothing better", "relabel that nobody preferred", "answer unusable", "no opinion of the student",
        "a good student alone", "a score alone", "both are liked", "a program likes the student", "one answer", "too close",
    ],
)  # fmt: skip
def test_without_evidence_there_is_no_pair(evidence: Evidence) -> None:
    assert pairs(evidence) == []


def test_a_rejected_teacher_is_not_held_up_against_a_student() -> None:
    assert pairs(replace(BASE, is_rejected=True, rivals=(rival(0.0),))) == []


def test_sides_that_say_the_same_are_no_pair_and_are_counted() -> None:
    call = Message("assistant", "", (ToolCall("f", '{"a": 1, "b": 2}', "1"),))
    again = Message("assistant", "with words", (ToolCall("f", '{"b":2,"a":1}', "2"),))
    found = make_pairs(
        "mail",
        [
            replace(BASE, edit=said(" Billing. ")),
            replace(BASE, exchange_id="ex_2", messages=(Message("user", "b"),), answer=call, edit=again),
            replace(BASE, exchange_id="ex_3", messages=(Message("user", "c"),), answer=said('{"a":1}'), edit=said('{ "a": 1 }')),
        ],
    )
    assert (found.pairs, found.left_out) == ((), {"same": 3})


def test_two_wordings_of_a_free_text_are_two_answers_though_they_contradict_nothing() -> None:
    (pair,) = pairs(replace(BASE, answer=said(GRUFF), edit=said(LONG)))
    assert sides(pair) == (EDIT, LONG, GRUFF)


def test_one_input_gives_its_strongest_pair() -> None:
    scored = (Scored(said("parcel"), 9), Scored(said("account"), 1))
    evidence = [
        replace(BASE, scored=scored, rivals=(rival(0.0),)),
        replace(BASE, exchange_id="ex_2", answer=said("other"), edit=said("parcel")),
    ]
    found = make_pairs("mail", evidence)
    assert [sides(pair) for pair in found.pairs] == [(EDIT, "parcel", "other")]
    assert (found.sources, found.left_out) == ({EDIT: 1}, {"weaker": 2})


def test_the_opposite_of_what_a_person_said_is_not_taught_beside_it() -> None:
    scored = (Scored(said("billing"), 9), Scored(said("parcel"), 1))
    found = make_pairs("mail", [replace(BASE, edit=said("parcel"), scored=scored)])
    assert [sides(pair) for pair in found.pairs] == [(EDIT, "parcel", "billing")]
    assert found.left_out == {"said_before": 1}


words = st.sampled_from(["billing", "parcel", "account", "Billing", LONG])
optional = st.none() | st.builds(said, words)
rivals = st.builds(
    Rival, st.just("ex_9"), st.builds(said, words), st.none() | st.floats(0, 1), st.none() | st.floats(0, 1), st.booleans(),
    st.booleans(),
)  # fmt: skip
evidences = st.builds(
    Evidence, st.sampled_from([f"ex_{number}" for number in range(9)]), st.sampled_from([BASE.messages, (Message("user", "b"),)]),
    answer=optional, edit=optional, demonstration=optional, is_rejected=st.booleans(), relabel=optional,
    scored=st.lists(st.builds(Scored, st.builds(said, words), st.floats(0, 10)), max_size=3).map(tuple),
    rivals=st.lists(rivals, max_size=2).map(tuple), is_imported=st.booleans(),
)  # fmt: skip


@given(st.lists(evidences, max_size=6, unique_by=lambda each: each.exchange_id), st.randoms())
def test_pairs_hold_what_they_promise_whatever_the_evidence(found: list[Evidence], order: random.Random) -> None:
    made = make_pairs("mail", found)
    shuffled = order.sample(found, len(found))
    assert make_pairs("mail", shuffled) == made
    assert len({pair.id for pair in made.pairs}) == len(made.pairs)
    assert len({pair.messages for pair in made.pairs}) == len(made.pairs)
    assert all(answer_key(pair.chosen) != answer_key(pair.rejected) for pair in made.pairs)
    assert list(made.sources) == [source for source in STRENGTH if source in made.sources]
    by_person = {rival.message.text for each in found for rival in each.rivals if rival.by_person}
    assert all(pair.chosen.text in by_person for pair in made.pairs if pair.source == AB and _chose_student(pair, found))


def _chose_student(pair: Preference, found: list[Evidence]) -> bool:
    (each,) = [each for each in found if each.exchange_id == pair.exchange_id]
    teacher = each.edit or each.demonstration or each.answer
    return teacher is not None and answer_key(teacher) != answer_key(pair.chosen)
