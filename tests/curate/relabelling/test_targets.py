from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from capture import feedback
from capture.messages import Message
from capture.records import Note
from curate import datasets
from curate.examples import ANSWER, DEMONSTRATION, EDIT, RELABEL
from curate.relabelling.relabel_store import Verdict, new_relabel, relabels, store
from curate.relabelling.targets import accepted_hashes, person_settled, read_targets, relabelled_by, spread, still_accepted
from curate.reviewing import review
from curate.selection import Candidate
from curate.settings import CurateSettings
from curate.splits import SPLITS
from curate.tasks.aliases import merge_tasks
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


def test_what_was_relabelled_under_another_name_of_the_task_stands(both_traffic: Traffic) -> None:
    traffic = both_traffic
    sent, other = traffic.send([*mails(1), replace(mails(1, 1)[0], task="post")])
    choose(traffic, sent, "by another teacher")
    merge_tasks(traffic.database, "mail", "post")
    assert read_targets(traffic.database, "post")[sent].message.text == "by another teacher"
    assert relabelled_by(traffic.database, "post") == {sent: "better-1"}
    assert list(relabels(traffic.database, "post", [sent, other])) == [sent]


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


def built(traffic: Traffic, folder: Path) -> dict[str, tuple[str, str]]:
    """Target and its source of every example of a new version, by exchange."""
    version = datasets.build(traffic.database, folder, "mail", CurateSettings(minimum_examples=3, val_share=0.1, test_share=0.1))
    rows = [example for split in SPLITS for example in datasets.load_split(version, split)]
    return {example.exchange_id: (example.target, example.target_source) for example in rows}


def test_an_accepted_answer_stands_against_a_relabel_that_is_chosen_later(both_traffic: Traffic, tmp_path: Path) -> None:
    traffic = both_traffic
    sent = traffic.send(mails(12))
    before = built(traffic, tmp_path / "data")
    review.record(traffic.database, "mail", sent[0], "accept", reviewer="ada")
    for exchange_id in sent[:2]:
        choose(traffic, exchange_id, "wrong")
    after = built(traffic, tmp_path / "data")
    assert after[sent[0]] == before[sent[0]]
    assert after[sent[1]] == ("wrong", RELABEL)
    review.undo(traffic.database, "mail", "ada")
    assert built(traffic, tmp_path / "data")[sent[0]] == ("wrong", RELABEL)


def test_an_accepted_relabel_stands_against_another_one(traffic: Traffic, tmp_path: Path) -> None:
    sent = traffic.send(mails(12))
    choose(traffic, sent[0], "first", "better-1")
    built(traffic, tmp_path / "data")
    review.record(traffic.database, "mail", sent[0], "accept", reviewer="ada")
    choose(traffic, sent[0], "second", "better-2")
    assert built(traffic, tmp_path / "data")[sent[0]] == ("first", RELABEL)
    assert relabelled_by(traffic.database, "mail") == {sent[0]: "better-1"}


def test_an_accept_says_nothing_of_another_answer_and_the_example_waits_again(traffic: Traffic, tmp_path: Path) -> None:
    sent = traffic.send(mails(12))
    built(traffic, tmp_path / "data")
    review.record(traffic.database, "mail", sent[0], "accept", reviewer="ada")
    assert sent[0] not in {card.exchange_id for card in review.queue(traffic.database, "mail")}
    hashes = accepted_hashes(traffic.database, "mail")
    mine = replace(candidate(1, '{"queue": "billing"}'), exchange_id=sent[0])
    answer = Message("assistant", built(traffic, tmp_path / "data")[sent[0]][0])
    assert still_accepted([replace(mine, target=answer.text)], hashes) == {sent[0]}
    assert still_accepted([replace(mine, target="another")], hashes) == set()
    show(traffic, sent[0], "as it should be")
    built(traffic, tmp_path / "data")
    assert sent[0] in {card.exchange_id for card in review.queue(traffic.database, "mail", reviewer="ada")}


def test_an_accept_of_before_answers_were_told_apart_holds_for_the_captured_one() -> None:
    rows = [candidate(1, "old"), candidate(2, "better", RELABEL)]
    assert still_accepted(rows, {"ex_1": "", "ex_2": ""}) == {"ex_1"}


def test_no_models_answer_to_the_same_input_goes_before_an_accepted_one() -> None:
    rows = [candidate(1, "old"), candidate(2, "better", RELABEL)]
    assert [each.target for each in spread(rows, {"ex_1"})] == ["old", "better"]
    rows.append(candidate(3, "edit", EDIT))
    assert [each.target for each in spread(rows, {"ex_1"})] == ["edit", "better", "edit"]
