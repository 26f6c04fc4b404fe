"""Review with look-alikes, tools, the sides of a contradiction, and other people's verdicts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import text

from curate import datasets
from curate.reviewing import audit, review
from curate.splits import SPLITS
from tui.screens.review import SECOND_OPINION

CALLED = {
    "role": "assistant", "content": "One moment.",
    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"id": 7}'}}],
}  # fmt: skip
TOOLS = [{"type": "function", "function": {"name": "look", "description": "Looks up.", "parameters": {"type": "object"}}}]


@pytest.fixture
def pile(captured: Any) -> Any:
    """A store with a triage dataset version of 40 tickets, the first five of which look alike."""
    captured.send(*captured.tickets(40), every_s=0.1)
    captured.build()
    alike = [card.exchange_id for card in review.queue(captured.database, "triage", 5)]
    write(captured, "UPDATE examples SET look_alike = 'g1.a' WHERE exchange_id = :id", [{"id": id} for id in alike])
    return captured


def write(captured: Any, sql: str, values: Any) -> None:
    with captured.database.write() as connection:
        connection.execute(text(sql), values)


def standing(captured: Any) -> list[review.Review]:
    return review.standing_verdicts(captured.database, "triage")


async def test_review_80x24_look_alikes(pile: Any, seat: Any, snapshot: Any) -> None:
    async with seat(keys=("3", "b")) as someone:
        snapshot(someone)


async def test_review_80x24_with_tools_and_sides(pile: Any, seat: Any, snapshot: Any) -> None:
    first, other = (card.exchange_id for card in review.queue(pile.database, "triage", 2))
    write(
        pile, "UPDATE examples SET look_alike = :mark, tools = :tools, answer = :answer, stands_for = 3 WHERE exchange_id = :id",
        [
            {"id": first, "mark": "g2.a", "tools": json.dumps(TOOLS), "answer": json.dumps(CALLED)},
            {"id": other, "mark": "g2.b", "tools": "[]", "answer": ""},
        ],
    )  # fmt: skip
    async with seat(keys=("3",)) as someone:
        snapshot(someone)


async def test_all_look_alikes_get_one_verdict_after_one_question_and_one_undo_takes_it_back(pile: Any, seat: Any) -> None:
    before = review.progress(pile.database, "triage").waiting
    async with seat(keys=("3",)) as someone:
        first = someone.app.screen.state().exchange_id
        await someone.press("b", "r", "escape", "escape")
        assert (standing(pile), someone.app.screen.state().exchange_id) == ([], first)
        await someone.press("b", "r", "enter")
        assert [one.verdict for one in standing(pile)] == ["reject"] * 5
        assert f"{before - 5} left" in someone.text
        assert "rejected 5 look-alikes" in someone.text
        assert someone.app.screen.state().alike == 0
        await someone.press("a", "u", "u")
        assert standing(pile) == []
        assert someone.app.screen.state().exchange_id == first
        assert f"{before} left" in someone.text


async def test_a_card_that_nothing_resembles_says_so(pile: Any, seat: Any) -> None:
    async with seat(keys=("3", "b", "a", "enter", "b")) as someone:
        assert someone.told()[-1] == "Nothing that waits looks like this card."


async def test_a_call_is_edited_as_json_and_a_broken_one_is_refused(pile: Any, seat: Any) -> None:
    first = review.queue(pile.database, "triage", 1)[0].exchange_id
    write(pile, "UPDATE examples SET answer = :answer WHERE exchange_id = :id", {"id": first, "answer": json.dumps(CALLED)})
    async with seat(keys=("3", "e", "ctrl+s")) as someone:
        assert [one.verdict for one in standing(pile)] == ["accept"]
        await someone.press("u", "e", "backspace", "ctrl+s")
        assert "calls of this target cannot be read" in someone.told()[-1]
        await someone.press("}", "space", "ctrl+s")
    (made,) = standing(pile)
    assert review.as_message(made.target).tool_calls[0].name == "look"


async def test_second_opinions_come_and_go_with_one_key(pile: Any, seat: Any) -> None:
    judged = [card.exchange_id for card in review.queue(pile.database, "triage", 1_000)]
    review.record_many(pile.database, "triage", judged, "accept", reviewer="ben")
    async with seat(keys=("3",)) as someone:
        assert "Nothing waits in triage" in someone.text
        await someone.press("o")
        waiting = review.progress(pile.database, "triage", "ana", SECOND_OPINION).waiting
        assert 0 < waiting < len(judged)
        assert f"{waiting} left" in someone.text
        await someone.press("r", "o")
        assert "Nothing waits in triage" in someone.text
    assert len(review.disputed(pile.database, "triage")) == 1


async def test_review_80x24_audit(pile: Any, seat: Any, snapshot: Any) -> None:
    """One key an example; a finding can be given again, and the interval is shown."""
    version = datasets.get_version(pile.database, "triage")
    ids = [example.exchange_id for split in SPLITS for example in datasets.load_split(version, split)]
    async with seat(keys=("3", "A")) as someone:
        assert someone.told()[-1] == "No audit is begun: potstill review audit start triage"
        begun = audit.start(pile.database, "triage", version.number, ids, version_hash=version.hash, size=4)
        await someone.press("A")
        snapshot(someone)
        await someone.press("a", "r", "a", "u", "r", "a", "a")
        assert "The sample is judged." in someone.text
        assert "2 of 4 judged examples are wrong" in someone.text
        await someone.press("escape")
        assert someone.app.screen.state().screen == "review"
    found = audit.latest_audit(pile.database, "triage", version.number)
    assert found is not None
    assert (found.audit, found.judges, found.waiting, found.overall.wrong) == (begun, ("ana",), 0, 2)


async def test_hostile_calls_tools_and_sides_are_shown_as_text(pile: Any, seat: Any) -> None:
    evil = "\x1b[2J[bold]x[/] \u202e\u2066" + "x" * 3_000
    call = {"id": evil, "type": "function", "function": {"name": evil, "arguments": json.dumps({evil: [evil], "b": evil})}}
    tools = [{"type": "function", "function": {"name": evil, "description": evil}}]
    values = {"answer": json.dumps({**CALLED, "content": evil, "tool_calls": [call]}), "tools": json.dumps(tools)}
    write(pile, "UPDATE examples SET answer = :answer, tools = :tools, target_source = 'relabel'", values)
    write(pile, "UPDATE examples SET look_alike = 'g1.b' WHERE exchange_id IN (SELECT MIN(exchange_id) FROM examples)", {})
    async with seat(keys=("3",)) as someone:
        for key in ("z", "b", "escape", "e", "escape", "a", "z"):
            await someone.press(key)
            assert not any("\x1b" in row or "\u202e" in row for row in someone.rows())
