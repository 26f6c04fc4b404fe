from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import event

from capture import feedback
from capture.messages import Message
from capture.pricing import PriceTable
from capture.records import Note
from curate import datasets
from curate.preferring.evidence import collect_pairs, figures
from curate.preferring.pairs import Pairs
from curate.relabelling.relabel_store import Verdict, new_relabel, store
from curate.relabelling.targets import read_targets
from curate.reviewing import review
from curate.selection import Candidate, select
from curate.settings import CurateSettings
from curate.uploads import Upload, import_dataset
from tests.curate.sending import Sent, Traffic, mails

SETTINGS = CurateSettings(minimum_examples=3, score_name="stars")
QUESTION = "where is my parcel"


def candidates(traffic: Traffic) -> list[Candidate]:
    targets = read_targets(traffic.database, "mail")
    return select(traffic.database, ("mail",), targets, SETTINGS, lambda stage, done, total: None).candidates


def collect(traffic: Traffic, train: Sequence[str], settings: CurateSettings = SETTINGS) -> Pairs:
    """The pairs when these exchanges are the train split and everything else was dropped."""
    found = candidates(traffic)
    kept = [each for each in found if each.exchange_id in train]
    return collect_pairs(traffic.database, "mail", kept, [each for each in found if each not in kept], settings)


def say(traffic: Traffic, exchange_id: str, value: float, *, name: str = "feedback", who: str = "", source: str = "api") -> None:
    kind = "boolean" if name == "feedback" else "float"
    id = f"fb_{exchange_id}_{name}_{who}_{source}"
    note = Note(kind=kind, name=name, value=value, exchange_id=exchange_id, id=id, who=who, created_us=1, source=source)
    feedback.add(traffic.database, [note])


def show(traffic: Traffic, exchange_id: str, answer: str) -> None:
    note = Note(kind="demonstration", name="demo", text=answer, exchange_id=exchange_id, id=f"fb_{exchange_id}", created_us=1)
    feedback.add(traffic.database, [note])


def sides(pairs: Pairs) -> list[tuple[str, str, str]]:
    return [(pair.source, pair.chosen.text, pair.rejected.text) for pair in pairs.pairs]


def by_student(answer: str, question: str = QUESTION) -> Sent:
    return Sent(question, answer, upstream="engine", variant="candidate", release_id="rel_1", user="u1")


def test_a_demonstration_stands_against_the_answer_as_it_was_captured(both_traffic: Traffic) -> None:
    traffic = both_traffic
    first, second = traffic.send([Sent(QUESTION, "billing"), Sent("who are you", "account")])
    show(traffic, first, "parcel")
    assert [each.target for each in candidates(traffic)] == ["parcel", "account"], "the target is the demonstration"
    found = collect(traffic, [first, second])
    assert sides(found) == [("edit", "parcel", "billing")]
    assert figures(found) == {"pairs": 1, "sources": {"edit": 1}, "left_out": {}}


def test_bad_feedback_and_a_better_relabel_make_a_pair(traffic: Traffic) -> None:
    first, second = traffic.send([Sent(QUESTION, "billing"), Sent("who are you", "account")])
    for exchange_id in (first, second):
        row = new_relabel("mail", exchange_id, "ex_other", "m", Message("assistant", "parcel"))
        store(traffic.database, [row], Verdict(exchange_id, "", {}, row.id))
    say(traffic, first, 0)
    say(traffic, second, 1)
    assert sides(collect(traffic, [first, second])) == [("rejection", "parcel", "billing")]


def test_the_best_and_the_worst_of_what_one_judge_scored_make_a_pair(traffic: Traffic) -> None:
    (sent,) = traffic.send([Sent(QUESTION, "billing")])
    original = new_relabel("mail", sent, sent, "t", Message("assistant", "billing"))
    rows = [new_relabel("mail", sent, f"ex_{said}", "m", Message("assistant", said)) for said in ("parcel", "account")]
    scores = dict(zip([row.id for row in (original, *rows)], (5.0, 9.0, 1.0), strict=True))
    store(traffic.database, [original, *rows], Verdict(sent, "j/judge-1", scores, rows[0].id))
    found = collect(traffic, [sent])
    assert sides(found) == [("best_of_n", "parcel", "account")]
    assert found.pairs[0].note == "scored 9 and 1 of 10"


def test_answers_under_terms_that_drop_them_are_in_no_pair_unless_forced(traffic: Traffic) -> None:
    (sent,) = traffic.send([Sent(QUESTION, "billing")])
    row = new_relabel("mail", sent, "ex_2", "claude-x", Message("assistant", "parcel"))
    store(traffic.database, [row], Verdict(sent, "", {}, row.id))
    say(traffic, sent, 0)
    strict = CurateSettings(teacher_terms={"claude*": "forbidden: counsel"})
    train = candidates(traffic)
    found = collect_pairs(traffic.database, "mail", train, [], strict)
    assert (found.pairs, found.left_out) == ((), {"unusable_terms": 1})
    assert len(collect_pairs(traffic.database, "mail", train, [], strict, forced="counsel agreed").pairs) == 1


def test_a_student_that_lost_is_the_worse_side(both_traffic: Traffic) -> None:
    traffic = both_traffic
    teacher, student = traffic.send([Sent(QUESTION, "parcel"), by_student("billing")])
    assert collect(traffic, [teacher]).pairs == (), "nobody said anything yet"
    say(traffic, student, 0)
    found = collect(traffic, [teacher])
    assert sides(found) == [("ab", "parcel", "billing")]
    assert student in found.pairs[0].note


def test_scores_under_the_name_of_the_settings_decide_between_teacher_and_student(traffic: Traffic) -> None:
    teacher, student = traffic.send([Sent(QUESTION, "parcel"), by_student("billing")])
    say(traffic, student, 2, name="stars")
    say(traffic, teacher, 5, name="other")
    assert collect(traffic, [teacher]).pairs == (), "they have no name in common"
    say(traffic, teacher, 4, name="stars")
    assert sides(collect(traffic, [teacher])) == [("ab", "parcel", "billing")]


def test_a_student_is_preferred_only_where_a_person_said_so(traffic: Traffic) -> None:
    teacher, student = traffic.send([Sent(QUESTION, "billing"), by_student("parcel")])
    say(traffic, teacher, 0)
    say(traffic, student, 1, who="nightly-judge")
    assert collect(traffic, [teacher]).pairs == ()
    say(traffic, student, 1, who="u1")
    assert sides(collect(traffic, [teacher])) == [("ab", "parcel", "billing")], "u1 is the very user"


def test_what_students_and_teachers_said_is_read_together_and_told_as_it_goes(both_traffic: Traffic) -> None:
    traffic = both_traffic
    teachers = traffic.send([Sent(f"{QUESTION} {number}", "parcel") for number in range(60)])
    students = traffic.send([by_student("billing", f"{QUESTION} {number}") for number in range(60)])
    for student in students:
        say(traffic, student, 0)
    train = candidates(traffic)
    asked: list[str] = []
    event.listen(traffic.database.engine, "before_cursor_execute", lambda *told: asked.append(told[2]))
    told: list[tuple[str, int, int]] = []
    found = collect_pairs(
        traffic.database, "mail", train, [], SETTINGS, on_progress=lambda stage, done, total: told.append((stage, done, total))
    )
    assert [pair.exchange_id for pair in found.pairs] == teachers
    assert len(asked) < 60, "they are read many at a time"
    assert told[0] == ("prefer", 0, 120)
    assert told[-1] == ("prefer", 120, 120)
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)


def test_an_accepted_answer_is_the_worse_side_of_no_model(traffic: Traffic, tmp_path: Path) -> None:
    sent = traffic.send(mails(12))
    datasets.build(traffic.database, tmp_path / "data", "mail", SETTINGS)
    captured = {each.exchange_id: each.answer for each in candidates(traffic)}
    for exchange_id in sent[:2]:
        other = new_relabel("mail", exchange_id, f"ex_of_{exchange_id}", "better-1", Message("assistant", "another"))
        own = new_relabel("mail", exchange_id, exchange_id, "m", captured[exchange_id])
        store(traffic.database, [other, own], Verdict(exchange_id, "judge-1/judge-1", {other.id: 9, own.id: 2}, other.id))
    review.record(traffic.database, "mail", sent[0], "accept", reviewer="ada")
    assert [pair.exchange_id for pair in collect(traffic, sent).pairs] == [sent[1]]


def test_another_input_of_a_student_proves_nothing(traffic: Traffic) -> None:
    teacher, student = traffic.send([Sent(QUESTION, "parcel"), by_student("billing", "where is my other parcel")])
    say(traffic, student, 0)
    assert collect(traffic, [teacher]).pairs == ()


def test_inputs_outside_of_train_give_nothing_unless_a_train_input_is_the_very_same(traffic: Traffic) -> None:
    kept, double, other = traffic.send([Sent(QUESTION, "parcel"), Sent(QUESTION, "billing"), Sent("who are you", "account")])
    show(traffic, double, "parcel")
    show(traffic, other, "person")
    assert sides(collect(traffic, [kept])) == [("edit", "parcel", "billing")]
    assert collect(traffic, []).pairs == ()


def test_secrets_are_in_no_pair_and_personal_data_is_hidden_on_both_sides(traffic: Traffic) -> None:
    question = "I am ada@example.org"
    first, second = traffic.send([Sent(question, "Dear ada@example.org"), Sent(QUESTION, "billing")])
    show(traffic, first, "Hello ada@example.org, or bob@example.org")
    row = new_relabel("mail", second, "ex_2", "m", Message("assistant", "the key is sk-" + "a1" * 20))
    store(traffic.database, [row], Verdict(second, "", {}, row.id))
    say(traffic, second, 0)
    both = [Candidate(each, 0, "openai", "t", "", "", asked, "", "", {}, False) for each, asked in _inputs(first, second)]
    found = collect_pairs(traffic.database, "mail", both, [], SETTINGS)
    assert sides(found) == [("edit", "Hello <EMAIL_1>, or <EMAIL_2>", "Dear <EMAIL_1>")]
    assert found.pairs[0].messages[-1].text == "I am <EMAIL_1>"
    assert found.left_out == {"unusable_secret": 1}


def _inputs(first: str, second: str) -> list[tuple[str, tuple[Message, ...]]]:
    return [(first, (Message("user", "I am <EMAIL_1>"),)), (second, (Message("user", QUESTION),))]


def test_a_reviewers_edit_makes_a_pair_and_a_rejection_alone_does_not(traffic: Traffic, tmp_path: Path) -> None:
    sent = traffic.send(mails(12))
    version = datasets.build(traffic.database, tmp_path / "data", "mail", SETTINGS)
    edited, rejected, *_ = [example.exchange_id for example in datasets.load_split(version, "train")]
    review.record(traffic.database, "mail", edited, "edit", "by hand", "ada")
    review.record(traffic.database, "mail", rejected, "reject", "", "ada")
    (pair,) = collect(traffic, sent).pairs
    assert (pair.exchange_id, pair.source, pair.chosen.text) == (edited, "edit", "by hand")


def test_a_pair_of_a_teams_data_set_is_one_here_and_its_better_side_the_target(traffic: Traffic, tmp_path: Path) -> None:
    asked = {"messages": [{"role": "user", "content": QUESTION}], "tools": []}
    sides_of = {"preferred": "parcel", "non_preferred": "billing"}
    row = {"input": asked} | {f"{name}_output": [{"role": "assistant", "content": answer}] for name, answer in sides_of.items()}
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(row) + "\n", "utf-8")
    assert import_dataset(traffic.database, PriceTable({}, 0.0), [path], Upload("mail", teacher="us")).pairs == 1
    ((exchange_id, target),) = read_targets(traffic.database, "mail").items()
    assert (target.message.text, target.source) == ("parcel", "import")
    assert sides(collect(traffic, [exchange_id])) == [("import", "parcel", "billing")]
