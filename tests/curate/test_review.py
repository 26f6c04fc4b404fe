from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from capture.errors import NotFoundError
from curate import review
from curate.datasets import build
from curate.review import ReviewError, ReviewProgress
from curate.settings import CurateSettings
from tests.curate.sending import Sent, Traffic, mails

QUESTION = Sent("Where on earth is the parcel from last week?", '{"queue": "parcel"}')


@pytest.fixture
def built(both_traffic: Traffic, tmp_path: Path) -> Traffic:
    """Sixty mails, and a question that was answered in two ways."""
    both_traffic.send([*mails(60), QUESTION, QUESTION, replace(QUESTION, answer='{"queue": "billing"}')])
    build(both_traffic.database, tmp_path, "mail", CurateSettings())
    return both_traffic


def test_contradictions_come_first_with_a_note_that_counts_the_answers(built: Traffic) -> None:
    first, second, third = review.queue(built.database, "mail", 3)
    assert {first.exchange_id, second.exchange_id} == {built.ids[61], built.ids[62]}
    assert first.note == second.note == 'same input seen 3 times: {"queue": "parcel"} 2, {"queue": "billing"} 1'
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
    undone = review.undo(database, "mail", "ann")
    assert undone is not None and (undone.exchange_id, undone.verdict, undone.note) == (cards[1].exchange_id, "skip", "not sure")
    assert review.queue(database, "mail", 1)[0].exchange_id == cards[1].exchange_id
    assert review.undo(database, "mail", "ann") is not None
    assert review.undo(database, "mail", "ann") is None
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
