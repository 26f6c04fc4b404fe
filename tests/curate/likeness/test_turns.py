"""Turns of one conversation are told from many people's words, and from each other."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from capture.messages import Message, ToolCall
from curate.draft import History, make_draft
from curate.likeness.templates import MINED_SHARE, mine, read_input, turns
from curate.likeness.turns import continuations, continued
from curate.selection import Candidate, input_key
from curate.settings import CurateSettings
from curate.splits import join_sessions

SYSTEM = Message("system", "You change flights. Ask for the number of the booking before you change anything at all.")
PROFILE = "name Ann Example, home town Denver, pays by card, flies with two bags and sits on the aisle whenever that is possible"
PLACES = ["Lima", "Oslo", "Rome", "Cairo", "Delhi", "Quito", "Paris", "Tunis", "Accra", "Sofia", "Hanoi", "Seoul"]


def silent(stage: str, done: int, total: int) -> None:
    pass


def test_what_goes_on_is_told_from_what_stands_alone() -> None:
    assert continued(["ab", "abcd", "ab", "x", ""]) == [True, False, True, False, True]
    assert continued([]) == []


def test_each_turn_is_paired_with_the_one_before_it() -> None:
    assert continuations(["abcd", "ab", "ab", "abcdef", "xy"]) == [(1, 0), (0, 3)]


@pytest.mark.parametrize(("others", "pairs"), [(4, 4), (5, 0)])
def test_an_opening_that_many_share_is_no_conversation(others: int, pairs: int) -> None:
    assert len(continuations(["a", *(f"a{n}" for n in range(others))])) == pairs


def conversation(number: int, rounds: int = 6) -> list[Candidate]:
    """An agent that looks up one thing after the other for one question: the same profile each time, hardly anything new."""
    place = PLACES[number % len(PLACES)]
    said = [
        SYSTEM,
        Message("user", f"Please move my flight to {place} by a day, whatever that costs me, and tell me the new time."),
    ]
    found = []
    for step in range(rounds):
        target = ToolCall(f"look_{'abcdefgh'[step]}", '{"who": "Ann"}')
        key = input_key(tuple(said))
        found.append(
            Candidate(f"ex_{number:02}{step}", number * 100 + step, "", "gpt", "", "", tuple(said), "", key, {}, False, (target,))
        )
        said = [*said, Message("assistant", "", (target,)), Message("tool", PROFILE)]
    return found


def test_successive_turns_neither_contradict_nor_repeat_each_other() -> None:
    rows = [row for number in range(12) for row in conversation(number)]
    draft = make_draft(rows, History(), CurateSettings(per_unit_cap_share=1), silent)
    assert draft.contradictions == ()
    assert not {drop.reason for drop in draft.dropped.values()} & {"contradiction", "exact_duplicate", "near_duplicate"}


def talk(number: int, rounds: int = 5) -> list[Candidate]:
    """A talk in which every turn says far more than all before it, so that no two look alike."""
    words = random.Random(number)
    said = [SYSTEM]
    found = []
    for step in range(rounds):
        said = [*said, Message("user", " ".join(f"{words.choice(PLACES)}{words.randrange(9999)}" for _ in range(5 * 3**step)))]
        key = input_key(tuple(said))
        found.append(
            Candidate(
                f"ex_{number:02}{step}", number * 100 + step, "", "gpt", "", "", tuple(said), f"fine {number}", key, {}, False
            )
        )
        said = [*said, Message("assistant", f"fine {number}")]
    return found


def test_all_turns_of_a_conversation_have_one_side_however_much_it_grows() -> None:
    rows = [row for number in range(30) for row in talk(number)]
    draft = make_draft(rows, History(), CurateSettings(per_unit_cap_share=1), silent)
    assert len(draft.splits) == len(rows)
    sides = {exchange_id[:5]: side for exchange_id, side in draft.splits.items()}
    assert all(sides[exchange_id[:5]] == side for exchange_id, side in draft.splits.items())
    assert set(sides.values()) == {"train", "val", "test"} and draft.sessions_apart == 0


def test_retries_of_a_turn_are_still_duplicates() -> None:
    rows = [row for number in range(12) for row in conversation(number)]
    again = [replace(row, exchange_id=f"{row.exchange_id}b", started_us=row.started_us + 1) for row in conversation(3)]
    draft = make_draft([*rows, *again], History(), CurateSettings(per_unit_cap_share=1), silent)
    assert [drop.reason for drop in draft.dropped.values()] == ["exact_duplicate"] * 6


def test_a_conversation_is_not_glued_where_that_would_move_what_is_held_out() -> None:
    groups, _ = join_sessions([0, 1, 2], ["", "", ""], ["train", "", "test"], CurateSettings(), [(0, 1), (1, 2)])
    assert groups == [0, 0, 2]


def test_what_one_conversation_says_is_not_the_apps_though_every_turn_repeats_it() -> None:
    asked = [read_input(row.messages) for number in range(2) for row in talk(number, rounds=6)]
    (template,) = mine(asked, ["" for _ in asked], MINED_SHARE)
    assert template.segments == {} and template.phrases == {}
    assert set(template.context) == {f"system\n{SYSTEM.text}"}


def test_examples_that_the_app_puts_first_are_no_turns() -> None:
    shots = (Message("user", "Oslo?"), Message("assistant", "Norway"), Message("user", "Lima?"), Message("assistant", "Peru"))
    asked = [read_input((SYSTEM, *shots, Message("user", f"{place} it is?"))) for place in PLACES]
    (template,) = mine(asked, PLACES, MINED_SHARE)
    assert {turns(one, template) for one in asked} == {0}
    assert (
        turns(
            read_input((SYSTEM, *shots, Message("user", "What?"), Message("assistant", "Hm"), Message("user", "So?"))), template
        )
        == 2
    )
