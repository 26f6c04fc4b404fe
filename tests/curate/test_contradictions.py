from __future__ import annotations

import pytest

from capture.messages import Message, ToolCall
from curate.contradictions import Contradiction, answers, kind_of, resolve
from curate.duplicates import compare, read_wordings
from curate.settings import CurateSettings
from curate.templates import read_input

DEFAULTS = CurateSettings()


def resolved(
    texts: list[str], said: list[str], reviewed: tuple[int, ...] = (), newest: list[int] | None = None
) -> list[Contradiction]:
    inputs = [read_input((Message("user", text),)) for text in texts]
    comparison = compare(read_wordings(inputs, said)[1], DEFAULTS)
    rows = range(len(texts))
    is_reviewed = [row in reviewed for row in rows]
    return resolve(comparison, rows, said, rows, is_reviewed, newest or list(rows), DEFAULTS.contradiction_threshold)


def test_the_majority_wins() -> None:
    found = resolved(["Where is it?"] * 3 + ["Cancel my plan"], ["parcel", "parcel", "billing", "account"])
    assert found == [Contradiction(0, (2,), {0: 2, 2: 1})]


def test_a_tie_goes_to_the_newest() -> None:
    assert resolved(["Where is it?", "where is it"], ["parcel", "billing"], newest=[5, 9])[0].losers == (0,)
    assert resolved(["Where is it?", "where is it"], ["parcel", "billing"], newest=[9, 5])[0].losers == (1,)


def test_a_reviewed_answer_wins_over_the_majority() -> None:
    assert resolved(["Where is it?"] * 4, ["a", "a", "a", "b"], reviewed=(3,))[0].losers == (0, 1, 2)


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
    assert kind_of(targets) == kind


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
