from __future__ import annotations

from pathlib import Path

from capture import feedback
from capture.messages import Message
from capture.records import Note
from curate import datasets, review
from curate.examples import ANSWER, DEMONSTRATION, EDIT, RELABEL
from curate.relabel_store import Verdict, new_relabel, relabels, store
from curate.selection import Candidate
from curate.settings import CurateSettings
from curate.targets import person_settled, read_targets, relabelled_by, spread
from tests.curate.sending import Traffic, mails


def choose(traffic: Traffic, exchange_id: str, answer: str, model: str = "better-1") -> None:
    row = new_relabel("mail", exchange_id, f"ex_of_{exchange_id}", model, Message("assistant", answer))
    store(traffic.database, [row], Verdict(exchange_id, "", {}, row.id))


def show(traffic: Traffic, exchange_id: str, answer: str, at_us: int = 1) -> None:
    note = Note(
        id=f"fb_{exchange_id}_{at_us}", exchange_id=exchange_id, name="demo", kind="demonstration", text=answer, created_us=at_us
    )
    feedback.add(traffic.database, [note])


def test_an_edit_goes_before_a_demonstration_and_that_before_a_relabel(both_traffic: Traffic, tmp_path: Path) -> None:
    traffic = both_traffic
    sent = traffic.send(mails(12))
    datasets.build(traffic.database, tmp_path / "data", "mail", CurateSettings(minimum_examples=3))
    for exchange_id in sent[:4]:
        choose(traffic, exchange_id, "by another teacher")
    for exchange_id in sent[:3]:
        show(traffic, exchange_id, "older", 1)
        show(traffic, exchange_id, "as it should be", 2)
    for exchange_id in sent[:2]:
        review.record(traffic.database, "mail", exchange_id, "edit", "by a reviewer", "ada")
    review.undo(traffic.database, "mail", "ada")
    found = read_targets(traffic.database, "mail")
    assert [(found[id].message.text, found[id].source) for id in sent[:4]] == [
        ("by a reviewer", EDIT),
        ("as it should be", DEMONSTRATION),
        ("as it should be", DEMONSTRATION),
        ("by another teacher", RELABEL),
    ]
    assert sorted(found) == sorted(sent[:4])
    assert person_settled(found) == set(sent[:3])
    assert sorted(read_targets(traffic.database, "mail", with_relabels=False)) == sorted(sent[:3])


def test_targets_of_another_task_stand_for_nothing_here(traffic: Traffic) -> None:
    (sent,) = traffic.send(mails(1))
    row = new_relabel("urgency", sent, "ex_2", "m", Message("assistant", "x"))
    store(traffic.database, [row], Verdict(sent, "", {}, row.id))
    assert read_targets(traffic.database, "mail") == {}
    assert relabelled_by(traffic.database, "mail") == {}


def test_only_one_relabel_of_an_exchange_is_chosen_and_none_where_the_original_stands(both_traffic: Traffic) -> None:
    traffic = both_traffic
    (sent,) = traffic.send(mails(1))
    choose(traffic, sent, "first")
    choose(traffic, sent, "second", "better-2")
    assert read_targets(traffic.database, "mail")[sent].message.text == "second"
    assert relabelled_by(traffic.database, "mail") == {sent: "better-2"}
    rows = relabels(traffic.database, "mail", [sent])[sent]
    store(traffic.database, [], Verdict(sent, "j/judge-1", {row.id: 3.5 for row in rows}, ""))
    after = relabels(traffic.database, "mail")[sent]
    assert [(row.score, row.judge, row.is_chosen) for row in after] == [(3.5, "j/judge-1", False)] * 2
    assert read_targets(traffic.database, "mail") == {}


def candidate(number: int, target: str, source: str = ANSWER, question: str = "same") -> Candidate:
    messages = (Message("user", question),)
    return Candidate(f"ex_{number}", number, "openai", "m", "", "", messages, target, "b2:0", {}, False, target_source=source)


def test_the_very_same_input_gets_the_target_that_stands_in_elsewhere() -> None:
    rows = [
        candidate(1, "old"), candidate(2, "better", RELABEL), candidate(3, "old"), candidate(4, "other", question="another"),
        candidate(5, "shown", DEMONSTRATION), candidate(6, "older edit", EDIT), candidate(7, "edit", EDIT),
    ]  # fmt: skip
    assert [(each.target, each.target_source) for each in spread(rows)] == [
        ("edit", EDIT), ("better", RELABEL), ("edit", EDIT), ("other", ANSWER), ("shown", DEMONSTRATION), ("older edit", EDIT),
        ("edit", EDIT),
    ]  # fmt: skip
    assert spread([candidate(1, "old")]) == [candidate(1, "old")]
