from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture.messages import Message, ToolCall
from curate.doubting.contradictions import Contradiction, answers, kind_of, resolve
from curate.doubting.sameness import answer_key
from curate.likeness.duplicates import compare, read_wordings
from curate.likeness.templates import read_input
from curate.settings import CONTRADICTION_POLICIES, CurateSettings

DEFAULTS = CurateSettings()


def resolved(
    texts: list[str], said: list[str], reviewed: tuple[int, ...] = (), newest: list[int] | None = None, policy: str = "majority",
    teachers: list[str] | None = None, scores: list[float | None] | None = None,
) -> list[Contradiction]:  # fmt: skip
    inputs = [read_input((Message("user", text),)) for text in texts]
    comparison = compare(read_wordings(inputs, said)[1], DEFAULTS)
    rows = range(len(texts))
    is_reviewed = [row in reviewed for row in rows]
    threshold = DEFAULTS.contradiction_threshold
    return resolve(
        comparison, rows, said, rows, is_reviewed, newest or list(rows), threshold, policy, teachers or (), scores or ()
    )  # fmt: skip


def test_the_majority_wins() -> None:
    (found,) = resolved(["Where is it?"] * 3 + ["Cancel my plan"], ["parcel", "parcel", "billing", "account"])
    assert (found.winner, found.losers, found.counts, found.rows) == (0, (2,), {0: 2, 2: 1}, (0, 1, 2))
    assert (found.decided_by, found.kind) == ("majority", "variance")


def test_a_tie_goes_to_the_newest() -> None:
    (found,) = resolved(["Where is it?", "where is it"], ["parcel", "billing"], newest=[5, 9])
    assert (found.losers, found.decided_by) == ((0,), "tie")
    assert resolved(["Where is it?", "where is it"], ["parcel", "billing"], newest=[9, 5])[0].losers == (1,)


def test_a_tie_goes_to_the_teacher_that_appeared_last_not_to_the_latest_row() -> None:
    texts = ["Cancel my plan", "Where is it?", "Where is it?"]
    (found,) = resolved(texts, ["account", "parcel", "billing"], teachers=["old", "new", "old"])
    assert (found.winner, found.losers, found.decided_by, found.kind) == (1, (2,), "tie", "teachers")


def test_a_reviewed_answer_wins_over_any_policy() -> None:
    for policy in CONTRADICTION_POLICIES:
        (found,) = resolved(["Where is it?"] * 4, ["a", "a", "a", "b"], reviewed=(3,), policy=policy, scores=[1, 1, 1, 0])
        assert (found.winner, found.losers, found.decided_by) == (3, (0, 1, 2), "review")


def test_of_two_reviewed_answers_the_one_with_more_rows_wins() -> None:
    assert resolved(["Where is it?"] * 4, ["b", "a", "a", "b"], reviewed=(0, 1), newest=[1, 2, 3, 0])[0].winner == 1


def test_the_newest_teacher_is_asked_what_it_says_most_often() -> None:
    said = ["a", "a", "a", "a", "b", "b", "c"]
    (found,) = resolved(["Where is it?"] * 7, said, teachers=["old"] * 4 + ["new"] * 3, policy="newest")
    assert (found.winner, found.losers, found.decided_by) == (4, (0, 1, 2, 3, 6), "newest")


def test_the_judge_decides_by_mean_score_and_the_majority_where_it_is_silent() -> None:
    texts, said = ["Where is it?"] * 3, ["a", "a", "b"]
    (found,) = resolved(texts, said, policy="judge", scores=[0.2, 0.6, 0.5])
    assert (found.winner, found.decided_by, found.sides[0].score) == (2, "judge", 0.5)
    (found,) = resolved(texts, said, policy="judge", scores=[None, 0.6, 0.5])
    assert (found.winner, found.losers) == (0, (2,))
    (found,) = resolved(texts, said, policy="judge")
    assert (found.winner, found.decided_by) == (0, "majority")


@pytest.mark.parametrize("policy", ["person", "drop"])
def test_nothing_stands_until_somebody_decides(policy: str) -> None:
    (found,) = resolved(["Where is it?"] * 3 + ["Cancel my plan"], ["a", "a", "b", "c"], policy=policy)
    assert (found.winner, found.losers, found.decided_by) == (None, (0, 1, 2), policy)


def test_two_models_that_disagree_are_told_from_one_that_varies() -> None:
    texts = ["Where is it?"] * 6
    teachers = ["one"] * 3 + ["two"] * 3
    assert resolved(texts, ["a", "a", "b", "a", "a", "c"], teachers=teachers)[0].kind == "variance"
    assert resolved(texts, ["a", "a", "a", "b", "b", "b"], teachers=teachers)[0].kind == "teachers"
    close = ["Someone stole my card in the middle of the town", "Someone stole my cards in the middle of the town"]
    assert resolved(close, ["lost_card", "lost_phone"], teachers=["one", "one"])[0].kind == "wording"


def test_all_sides_are_shown_with_who_said_what() -> None:
    (found,) = resolved(
        ["Where is it?"] * 4, ["a", "b", "b", "c"], teachers=["one", "one", "two", "two"], scores=[None, 1, 0, None]
    )
    assert [(side.said, side.rows, dict(side.teachers), side.newest_us, side.score) for side in found.sides] == [
        ("b", (1, 2), {"one": 1, "two": 1}, 2, 0.5),
        ("a", (0,), {"one": 1}, 0, None),
        ("c", (3,), {"two": 1}, 3, None),
    ]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("xyz"), st.sampled_from("abc"), st.sampled_from(["", "one", "two"])), min_size=2, max_size=30
    ),
    st.sampled_from(CONTRADICTION_POLICIES),
    st.sets(st.integers(0, 29), max_size=2),
)
def test_every_row_of_a_contradiction_stands_or_goes(rows: list[tuple[str, str, str]], policy: str, reviewed: set[int]) -> None:
    texts = [f"{'where is my parcel' if text == 'x' else 'cancel the plan' if text == 'y' else 'refund'}" for text, _, _ in rows]
    said = [answer for _, answer, _ in rows]
    found = resolved(texts, said, tuple(reviewed), None, policy, [teacher for _, _, teacher in rows])
    contested = {text for text in texts if len({answer for other, answer in zip(texts, said, strict=True) if other == text}) > 1}
    assert {texts[row] for one in found for row in one.rows} == contested
    for one in found:
        stays = [row for row in one.rows if row not in one.losers]
        assert {said[row] for row in stays} == (set() if one.winner is None else {said[one.winner]})
        assert set(one.rows) == {row for row, text in enumerate(texts) if text == texts[one.rows[0]]}
        if reviewed & set(one.rows):
            assert one.winner is not None and said[one.winner] in {said[row] for row in reviewed if row < len(rows)}


def test_ten_thousand_identical_inputs_with_three_hundred_targets_are_one_contradiction() -> None:
    said = [f"queue {number % 300 if number >= 100 else 7}" for number in range(10_000)]
    (found,) = resolved(["Where is my parcel?"] * 10_000, said)
    assert len(found.sides) == 300 and sum(found.counts.values()) == 10_000
    assert said[found.winner or 0] == "queue 7"
    assert len(found.losers) == 10_000 - len(found.sides[0].rows)


def test_near_duplicates_contradict_only_when_very_near() -> None:
    close = ["Someone stole my card in the middle of the town", "Someone stole my cards in the middle of the town"]
    assert len(resolved(close, ["lost_card", "lost_phone"])) == 1
    looser = ["Someone stole my card in the town", "Someone took my card in the town"]
    assert resolved(looser, ["lost_card", "lost_phone"]) == []


def test_equal_answers_do_not_contradict() -> None:
    assert resolved(["Where is it?"] * 3, ["parcel"] * 3) == []


@pytest.mark.parametrize(
    ("kind", "targets"),
    [
        ("json", ['{"queue": "a"}', '{"queue":"b"}']),
        ("label", ["billing", "Parcel."]),
        ("label", ["7", "true"]),
        ("text", ["Dear customer, the parcel will arrive within three working days at your address.", "ok"]),
    ],
)
def test_targets_are_compared_by_their_kind(kind: str, targets: list[str]) -> None:
    assert kind_of([Message("assistant", target) for target in targets]).name == kind


LONG = "The customer wants to know when the parcel comes, so this is a question of the queue parcel."


def test_one_odd_answer_leaves_the_kind_and_is_compared_by_its_own_wording() -> None:
    labels = said_by(*["billing", "parcel"] * 50, LONG, LONG.upper(), LONG.replace("parcel", "billing"))
    assert len(set(labels)) == 4 and labels[100] == labels[101]
    objects = said_by(*['{"queue": "a"}', '{"queue":"b"}'] * 50, LONG, "parcel")
    assert len(set(objects)) == 4
    made = [Message("assistant", text) for text in (*["billing"] * 99, LONG)]
    assert (kind_of(made).name, kind_of(made).plain, kind_of(made).odd) == ("label", 100, 1)
    assert kind_of(made[80:]).name == "label"
    assert (kind_of(made[90:]).name, kind_of(made[90:]).odd) == ("text", 9)


def test_json_is_compared_as_json_in_a_task_of_free_text_too() -> None:
    assert len(set(said_by(LONG, LONG + " Thanks.", '{"queue": "a"}', '{"queue": "b"}'))) == 3


@pytest.mark.parametrize("deep", ["[" * 5_000, "[" * 5_000 + "]" * 5_000, '{"a":' * 900 + "1" + "}" * 900])
def test_brackets_without_end_are_one_answer_among_others(deep: str) -> None:
    assert len(set(said_by(*['{"a": 1}'] * 299, deep))) == 2
    assert len(set(answers([Message("assistant", "", (ToolCall("book", text, "1"),)) for text in (deep, "{}")]))) == 2
    assert answer_key(Message("assistant", deep)) != answer_key(Message("assistant", "[]"))


def said_by(*texts: str) -> list[str]:
    return answers([Message("assistant", text) for text in texts])


def test_json_is_compared_by_value_and_labels_by_wording() -> None:
    assert len(set(said_by('{"a": 1, "b": 2}', '{"b":2,"a":1}'))) == 1
    assert len(set(said_by('{"a": 1}', '{"a": 2}'))) == 2
    assert len(set(said_by("Billing", "billing."))) == 1


def test_tool_calls_are_compared_by_name_and_arguments_not_by_id_or_words() -> None:
    def calling(text: str, arguments: str, id: str) -> Message:
        return Message("assistant", text, (ToolCall("book", arguments, id),))

    same = answers([calling("", '{"to": "Rome", "on": 1}', "a"), calling("Booking.", '{"on":1,"to":"Rome"}', "b")])
    other = answers([calling("", '{"to": "Rome"}', "a"), calling("", '{"to": "Oslo"}', "a"), Message("assistant", "Rome")])
    assert (len(set(same)), len(set(other))) == (1, 3)


def test_two_wordings_of_a_free_text_agree_unless_their_numbers_differ() -> None:
    first = "Hello, your order will reach you in 3 days. We are sorry for the delay that you had to live with."
    same = "Dear customer, sorry about the wait! In 3 days at most the order will be at your door, we promise."
    other = first.replace("3", "9")
    said = said_by(first, same, other)
    assert said[0] == said[1] != said[2]
