from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from capture.errors import NotFoundError
from capture.messages import Message
from curate.datasets import build, load_split
from curate.golden import pins
from curate.golden_pins import GoldenError, pin_accepted, pin_exchange, trained_on, unpin
from curate.reviewing import review
from curate.settings import CurateSettings
from tests.curate.sending import Sent, Traffic, mails

DEFAULTS = CurateSettings()


def sides(traffic: Traffic) -> dict[str, str]:
    with traffic.database.read() as connection:
        return {row[0]: row[1] for row in connection.execute(text("SELECT input_key, split FROM splits"))}


def test_a_pin_holds_the_experts_answer_and_is_held_out(both_traffic: Traffic) -> None:
    ids = both_traffic.send(mails(3))
    answer = Message("assistant", '{"queue": "legal"}')
    made = pin_exchange(
        both_traffic.database, "mail", ids[0], DEFAULTS, who="ann", answer=answer, grade="hard", note="seen twice"
    )
    (golden,) = pins(both_traffic.database, "mail")
    assert made.golden == golden
    assert (golden.exchange_id, golden.answer, golden.grade, golden.who, golden.note) == (
        ids[0],
        answer,
        "hard",
        "ann",
        "seen twice",
    )
    assert golden.messages[1].text == mails(1)[0].question
    assert (made.side, made.trained, made.unread) == ("", (), ())
    assert sides(both_traffic) == {golden.input_key: "golden"}


def test_pinning_what_a_version_trained_on_names_the_versions(traffic: Traffic, tmp_path: Path) -> None:
    traffic.send(mails(60))
    first = build(traffic.database, tmp_path, "mail", DEFAULTS)
    trained, tested = load_split(first, "train")[0], load_split(first, "test")[0]
    traffic.send(mails(20, 60))
    build(traffic.database, tmp_path, "mail", DEFAULTS)
    made = pin_exchange(traffic.database, "mail", trained.exchange_id, DEFAULTS, who="ann")
    assert (made.side, made.trained) == ("train", ("mail/v1", "mail/v2"))
    other = pin_exchange(traffic.database, "mail", tested.exchange_id, DEFAULTS, who="ann")
    assert (other.side, other.trained) == ("test", ())
    assert trained_on(traffic.database, "mail", {trained.input_key, tested.input_key}) == (
        {trained.input_key: ("mail/v1", "mail/v2")},
        (),
    )
    (first.folder / "train.jsonl").unlink()
    assert trained_on(traffic.database, "mail", {trained.input_key}) == ({trained.input_key: ("mail/v2",)}, ("mail/v1",))


def test_taking_a_pin_back_makes_the_input_test_for_ever(traffic: Traffic, tmp_path: Path) -> None:
    traffic.send(mails(60))
    first = build(traffic.database, tmp_path, "mail", DEFAULTS)
    trained = load_split(first, "train")[0]
    pin_exchange(traffic.database, "mail", trained.exchange_id, DEFAULTS, who="ann")
    assert unpin(traffic.database, "mail", trained.exchange_id).input_key == trained.input_key
    assert pins(traffic.database, "mail") == []
    assert sides(traffic)[trained.input_key] == "test"
    again = build(traffic.database, tmp_path, "mail", DEFAULTS)
    assert trained.exchange_id in {example.exchange_id for example in load_split(again, "test")}
    with pytest.raises(NotFoundError, match="golden list mail"):
        unpin(traffic.database, "mail", trained.exchange_id)


def test_pinning_again_replaces_answer_and_grade(traffic: Traffic) -> None:
    (id,) = traffic.send(mails(1))
    pin_exchange(traffic.database, "mail", id, DEFAULTS, who="ann", grade="easy")
    made = pin_exchange(traffic.database, "mail", id, DEFAULTS, who="bob", answer=Message("assistant", "x"), grade="hard")
    assert made.side == "golden"
    assert [(one.who, one.grade, one.answer.text) for one in pins(traffic.database, "mail")] == [("bob", "hard", "x")]


def test_personal_data_is_replaced_and_a_secret_is_refused(traffic: Traffic) -> None:
    question = "Write to ann.lee@example.org about the parcel from Monday"
    ids = traffic.send(
        [Sent(question, "done"), replace(mails(1)[0], answer="sk-proj-" + "a1B2" * 12), Sent("Hi", "x", task="other")]
    )
    made = pin_exchange(traffic.database, "mail", ids[0], DEFAULTS, who="ann")
    assert "example.org" not in made.golden.messages[1].text
    with pytest.raises(GoldenError, match="secret"):
        pin_exchange(traffic.database, "mail", ids[1], DEFAULTS, who="ann")
    with pytest.raises(GoldenError, match="task other"):
        pin_exchange(traffic.database, "mail", ids[2], DEFAULTS, who="ann")
    with pytest.raises(NotFoundError, match="ex_nothing"):
        pin_exchange(traffic.database, "mail", "ex_nothing", DEFAULTS, who="ann")
    assert len(pins(traffic.database, "mail")) == 1


def test_what_enough_reviewers_agree_on_is_pinned(traffic: Traffic, tmp_path: Path) -> None:
    ids = traffic.send(mails(40))
    database = traffic.database
    build(database, tmp_path, "mail", DEFAULTS)
    agreed, edited, disputed, alone, unlike = ids[:5]
    for who in ("ann", "bob"):
        review.record(database, "mail", agreed, "accept", reviewer=who)
        review.record(database, "mail", edited, "edit", '{"queue": "legal"}', reviewer=who)
    review.record(database, "mail", disputed, "accept", reviewer="ann")
    review.record(database, "mail", disputed, "reject", reviewer="bob")
    review.record(database, "mail", alone, "accept", reviewer="ann")
    review.record(database, "mail", unlike, "accept", reviewer="ann")
    review.record(database, "mail", unlike, "edit", '{"queue": "legal"}', reviewer="bob")
    made = pin_accepted(database, "mail", 2, DEFAULTS, who="ann")
    assert {one.golden.exchange_id: one.golden.answer.text for one in made.pinned} == {
        agreed: mails(1)[0].answer,
        edited: '{"queue": "legal"}',
    }
    assert set(made.unlike) == {disputed, unlike} and made.problems == ()
    assert {one.grade for one in pins(database, "mail")} == {"agreed by 2"}
