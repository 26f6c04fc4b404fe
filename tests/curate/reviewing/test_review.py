from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from capture.errors import NotFoundError
from capture.messages import Message, ToolCall
from capture.pseudonyms import PersonalPolicy
from curate.datasets import build
from curate.reviewing import review
from curate.reviewing.review import Review, ReviewError, ReviewProgress
from curate.settings import CurateSettings
from tests.curate.sending import Sent, Traffic, mails

QUESTION = Sent("Where on earth is the parcel from last week?", '{"queue": "parcel"}')


@pytest.fixture
def built(both_traffic: Traffic, tmp_path: Path) -> Traffic:
    """Sixty mails, and a question that was answered in two ways."""
    both_traffic.send([*mails(60), QUESTION, QUESTION, replace(QUESTION, answer='{"queue": "billing"}')])
    build(both_traffic.database, tmp_path, "mail", CurateSettings())
    return both_traffic


@pytest.fixture
def small(traffic: Traffic, tmp_path: Path) -> Traffic:
    """Ten mails and the same question, on SQLite."""
    traffic.send([*mails(10), QUESTION, QUESTION, replace(QUESTION, answer='{"queue": "billing"}')])
    build(traffic.database, tmp_path, "mail", CurateSettings(minimum_examples=3, val_share=0.2, test_share=0.2))
    return traffic


def mark(traffic: Traffic, marks: dict[str, str]) -> None:
    """Marks examples as look-alikes, as a build does."""
    with traffic.database.write() as connection:
        sql = text("UPDATE examples SET look_alike = :mark WHERE exchange_id = :id")
        connection.execute(sql, [{"id": exchange_id, "mark": mark} for exchange_id, mark in marks.items()])


def given_by(*verdicts: str) -> list[Review]:
    """Verdicts on one example, such as `ann accept`."""
    return [Review(f"rv_{n}", "mail", "ex_1", said.split()[1], "", said.split()[0], "", n) for n, said in enumerate(verdicts)]


def test_contradictions_come_first_with_a_note_that_counts_the_answers(built: Traffic) -> None:
    first, second, third = review.queue(built.database, "mail", 3)
    assert {first.exchange_id, second.exchange_id} == {built.ids[61], built.ids[62]}
    assert first.note == second.note == 'same input, 2 answers: {"queue": "parcel"}, {"queue": "billing"}'
    assert {first.reason, second.reason} == {"", "contradiction"}
    assert third.note == ""
    assert first.messages[1].text == QUESTION.question


def test_rare_targets_come_before_frequent_ones(traffic: Traffic, tmp_path: Path) -> None:
    sent = mails(60)
    sent[30] = replace(sent[30], answer='{"queue": "press"}')
    ids = traffic.send(sent)
    build(traffic.database, tmp_path, "mail", CurateSettings())
    cards = review.queue(traffic.database, "mail")
    assert cards[0].exchange_id == ids[30]
    frequent = [card.exchange_id for card in cards if card.target == cards[-1].target]
    assert frequent == sorted(frequent, reverse=True)


def test_an_answer_that_reads_like_a_refusal_is_looked_at_early(traffic: Traffic, tmp_path: Path) -> None:
    ids = traffic.send([Sent("Break into it for me, will you", "I'm sorry, but I can't help with that."), *mails(60)])
    build(traffic.database, tmp_path, "mail", CurateSettings())
    card = review.queue(traffic.database, "mail", 1)[0]
    assert (card.exchange_id, card.note) == (ids[0], "reads like a refusal")


def test_a_verdict_takes_a_card_away_and_undo_brings_it_back(built: Traffic) -> None:
    database = built.database
    cards = review.queue(database, "mail")
    review.record(database, "mail", cards[0].exchange_id, "accept", reviewer="ann")
    review.record(database, "mail", cards[1].exchange_id, "skip", reviewer="ann", note="not sure")
    assert [card.exchange_id for card in review.queue(database, "mail", 2)] == [card.exchange_id for card in cards[2:4]]
    (undone,) = review.undo(database, "mail", "ann")
    assert (undone.exchange_id, undone.verdict, undone.note) == (cards[1].exchange_id, "skip", "not sure")
    assert review.queue(database, "mail", 1)[0].exchange_id == cards[1].exchange_id
    assert len(review.undo(database, "mail", "ann")) == 1
    assert review.undo(database, "mail", "ann") == []
    assert [card.exchange_id for card in review.queue(database, "mail", 2)] == [card.exchange_id for card in cards[:2]]


def test_undo_takes_back_only_ones_own_verdict(built: Traffic) -> None:
    database, exchange_id = built.database, built.ids[0]
    review.record(database, "mail", exchange_id, "reject", reviewer="ann")
    review.record(database, "mail", exchange_id, "accept", reviewer="bob")
    review.undo(database, "mail", "ann")
    assert [(one.reviewer, one.verdict) for one in review.standing_verdicts(database, "mail")] == [("bob", "accept")]


def test_progress_counts_the_verdicts_that_stand(built: Traffic) -> None:
    database = built.database
    assert review.progress(database, "mail") == ReviewProgress(62, 0, 0, 0, 0)
    for exchange_id, verdict in zip(built.ids, ("accept", "reject", "edit", "skip", "reject"), strict=False):
        review.record(database, "mail", exchange_id, verdict, "other" if verdict == "edit" else "", reviewer="ann")
    review.record(database, "mail", built.ids[4], "accept", reviewer="ann")
    assert review.progress(database, "mail") == ReviewProgress(57, 2, 1, 1, 1)
    review.undo(database, "mail", "ann")
    assert review.progress(database, "mail") == ReviewProgress(57, 1, 2, 1, 1)


def test_reviews_survive_the_next_build(built: Traffic, tmp_path: Path) -> None:
    review.record(built.database, "mail", built.ids[0], "reject", reviewer="ann")
    built.send(mails(20, first=100))
    build(built.database, tmp_path, "mail", CurateSettings())
    assert review.progress(built.database, "mail").rejected == 1
    assert built.ids[0] not in {card.exchange_id for card in review.queue(built.database, "mail", 1_000)}


def test_a_verdict_that_cannot_be_is_refused(built: Traffic) -> None:
    with pytest.raises(ReviewError, match="accept, reject, edit, skip"):
        review.record(built.database, "mail", built.ids[0], "approve")
    with pytest.raises(ReviewError, match="target"):
        review.record(built.database, "mail", built.ids[0], "edit", "  ")
    with pytest.raises(NotFoundError, match="dataset build other"):
        review.record(built.database, "other", built.ids[0], "accept")


@pytest.mark.parametrize(
    ("verdicts", "counts"),
    [
        (["ann accept"], "ann accept"),
        (["ann accept", "ann reject"], "ann reject"),
        (["ann reject", "bob skip"], "ann reject"),
        (["ann skip", "bob skip"], "bob skip"),
        (["ann accept", "bob accept"], "bob accept"),
        (["ann edit", "bob accept"], "ann edit"),
        (["ann edit", "bob edit", "cem accept"], "bob edit"),
        (["ann accept", "bob reject"], ""),
        (["ann edit", "bob reject"], ""),
        (["ann accept", "bob reject", "cem reject"], "cem reject"),
        (["ann accept", "bob reject", "cem edit", "dua reject", "eve accept"], "cem edit"),
        (["ann accept", "bob reject", "bob skip"], "ann accept"),
    ],
)  # fmt: skip
def test_of_several_verdicts_the_majority_counts_and_an_even_split_is_disputed(verdicts: list[str], counts: str) -> None:
    settled = review.settle(given_by(*verdicts))
    assert (f"{settled.reviewer} {settled.verdict}" if settled else "") == counts


def test_a_disputed_example_waits_for_a_third_person_who_decides(built: Traffic) -> None:
    database = built.database
    card = review.queue(database, "mail", 5)[4]
    review.record(database, "mail", card.exchange_id, "accept", reviewer="ann")
    review.record(database, "mail", card.exchange_id, "reject", reviewer="bob")
    assert review.disputed(database, "mail") == {card.exchange_id}
    assert review.progress(database, "mail", "cem") == ReviewProgress(62, 0, 0, 0, 0, 1)
    assert card.exchange_id not in {other.exchange_id for other in review.queue(database, "mail", 99, "ann")}
    first = review.queue(database, "mail", 1, "cem")[0]
    assert (first.exchange_id, first.note) == (card.exchange_id, "reviewers differ: 1 keep it, 1 reject it.")
    review.record(database, "mail", card.exchange_id, "reject", reviewer="cem")
    assert [one.verdict for one in review.standing_verdicts(database, "mail")] == ["reject"]
    assert review.progress(database, "mail", "cem") == ReviewProgress(61, 0, 1, 0, 0, 0)


def test_what_one_person_skipped_waits_for_another(small: Traffic) -> None:
    card = review.queue(small.database, "mail", 1, "ann")[0]
    review.record(small.database, "mail", card.exchange_id, "skip", reviewer="ann")
    assert review.queue(small.database, "mail", 1, "ann")[0].exchange_id != card.exchange_id
    assert review.queue(small.database, "mail", 1, "bob")[0].exchange_id == card.exchange_id


def test_every_fifth_card_is_a_second_opinion_and_the_same_for_everybody() -> None:
    waiting = [f"ex_w{number}" for number in range(40)]
    judged = [f"ex_j{number}" for number in range(200)]
    reviews = [Review("rv", "mail", exchange_id, "accept", "", "ann", "", 1) for exchange_id in judged]
    for_bob = review.line_up([*judged, *waiting], reviews, "bob", 5)
    assert [place for place, exchange_id in enumerate(for_bob[:40]) if exchange_id in set(judged)] == list(range(4, 40, 5))
    assert 25 <= len(set(for_bob) & set(judged)) <= 55
    assert for_bob == review.line_up([*judged, *waiting], reviews, "cem", 5)
    assert review.line_up([*judged, *waiting], reviews, "ann", 5) == waiting
    assert review.line_up([*judged, *waiting], reviews, "bob") == waiting


NAMES = st.sampled_from(["ann", "bob"])
SAID = st.tuples(st.sampled_from(["ex_1", "ex_2", "ex_3"]), NAMES, st.sampled_from([*review.VERDICTS, review.UNDO]))


def rows_of(said: Sequence[tuple[str, str, str]]) -> list[Review]:
    return [Review(f"rv_{n}", "mail", id, verdict, "", who, "", n) for n, (id, who, verdict) in enumerate(said)]


@given(st.lists(SAID, max_size=15), NAMES, st.integers(0, 3))
def test_a_queue_has_every_example_at_most_once_and_none_that_its_reviewer_judged(
    said: list[tuple[str, str, str]], reviewer: str, share: int
) -> None:
    rows = rows_of(said)
    lined = review.line_up(["ex_1", "ex_2", "ex_3"], rows, reviewer, share)
    assert len(lined) == len(set(lined))
    standing = review.by_example(review.standing(rows))
    assert {"ex_1", "ex_2", "ex_3"} - standing.keys() <= set(lined)
    assert not any(verdict.reviewer == reviewer for id in lined for verdict in standing.get(id, []))


@given(st.lists(SAID, max_size=15), SAID)
def test_an_undo_leaves_what_stood_before(said: list[tuple[str, str, str]], last: tuple[str, str, str]) -> None:
    before = review.standing(rows_of(said))
    if last[2] != review.UNDO:
        assert review.standing(rows_of([*said, last, (last[0], last[1], review.UNDO)])) == before


def test_look_alikes_are_decided_together_and_taken_back_together(built: Traffic) -> None:
    database, chosen = built.database, built.ids[:4]
    mark(built, {**dict.fromkeys(chosen, "g1.a"), built.ids[4]: "g1.b"})
    review.record(database, "mail", chosen[3], "skip", reviewer="ann")
    review.record(database, "mail", built.ids[7], "accept", reviewer="ann")
    card = next(card for card in review.queue(database, "mail", 99, "ann") if card.exchange_id == chosen[0])
    assert card.alike == 2
    found = review.look_alikes(database, "mail", chosen[0], "ann", limit=2)
    assert (set(found.exchange_ids), len(found.cards)) == (set(chosen[:3]), 2)
    made = review.record_many(database, "mail", found.exchange_ids, "reject", reviewer="ann", note="same form")
    assert {one.id for one in made} == {made[0].id}
    assert review.progress(database, "mail", "ann").rejected == 3
    assert {one.exchange_id for one in review.undo(database, "mail", "ann")} == set(chosen[:3])
    assert review.progress(database, "mail", "ann").rejected == 0
    assert [one.exchange_id for one in review.undo(database, "mail", "ann")] == [built.ids[7]]


def test_a_bulk_is_recorded_whole_or_not_at_all(small: Traffic) -> None:
    with pytest.raises(NotFoundError, match="ex_nosuch"):
        review.record_many(small.database, "mail", [small.ids[0], "ex_nosuch"], "accept", reviewer="ann")
    with pytest.raises(ReviewError, match="none was named"):
        review.record_many(small.database, "mail", [], "accept", reviewer="ann")
    assert review.all_reviews(small.database, "mail") == []


def test_a_card_shows_the_other_answers_to_its_question(small: Traffic) -> None:
    parcel, billing = small.ids[11:]
    mark(small, {parcel: "g1.a", billing: "g1.b", small.ids[0]: "g2.a"})
    card = next(card for card in review.queue(small.database, "mail", 99) if card.exchange_id == billing)
    assert [(side.exchange_id, side.target) for side in card.sides] == [(parcel, QUESTION.answer)]
    assert review.queue(small.database, "mail", 99)[-1].sides == ()


def test_an_edit_can_be_a_call_and_reads_back_as_it_was_written() -> None:
    called = Message("assistant", "One moment.", (ToolCall("look", '{"id": 7}', "call_1"),))
    assert review.as_message(review.as_text(called)) == called
    assert review.as_message(review.as_text(Message("assistant", "billing"))) == Message("assistant", "billing")


@given(st.text())
def test_words_that_are_no_call_stay_as_they_are(words: str) -> None:
    assert review.as_message(words) == Message("assistant", words)


@pytest.mark.parametrize(
    "calls", ['[{"function": {"name": "look"}}]', "3", '[{"function": {"name": "look", "arguments": "[1]"}}]', '["look"]']
)
def test_an_edit_whose_calls_cannot_be_read_is_refused(calls: str) -> None:
    with pytest.raises(ReviewError, match="calls of this target"):
        review.as_message(f'{{"role": "assistant", "content": "", "tool_calls": {calls}}}')


def test_what_a_reviewer_writes_keeps_no_secret_and_no_personal_data_where_the_house_masks_them(small: Traffic) -> None:
    written = "ask ann@example.com, key sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGH"
    made = review.record(small.database, "mail", small.ids[0], "edit", written, "ann", written, PersonalPolicy("mask"))
    assert "example.com" not in made.target + made.note
    assert "abcdefghij" not in made.target + made.note
