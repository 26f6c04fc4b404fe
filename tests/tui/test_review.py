"""Review on a real dataset version: one card, one key, everything in the store in the order of the keys."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import text

from curate.reviewing import review


@pytest.fixture
def pile(captured: Any) -> Any:
    """A store with a triage dataset version of 140 tickets."""
    captured.send(*captured.tickets(140), every_s=0.1)
    captured.build()
    return captured


async def test_review_80x24_full(pile: Any, seat: Any, snapshot: Any) -> None:
    async with seat(keys=("3",)) as someone:
        snapshot(someone)


async def test_review_80x24_after_three_verdicts(pile: Any, seat: Any, snapshot: Any) -> None:
    async with seat(keys=("3",)) as someone:
        for key in ("a", "r", "s"):
            await someone.press(key)
            pile.frozen.move(4)
        await someone.press("z")
        snapshot(someone)


async def test_review_60x16_full(pile: Any, seat: Any, snapshot: Any) -> None:
    async with seat(size=(60, 16), keys=("3",)) as someone:
        snapshot(someone)


async def test_review_80x24_empty(seat: Any, snapshot: Any) -> None:
    async with seat(keys=("3",)) as someone:
        snapshot(someone)


async def test_review_80x24_edit(pile: Any, seat: Any, snapshot: Any) -> None:
    async with seat(keys=("3", "e")) as someone:
        snapshot(someone)


async def test_a_hundred_cards_take_a_hundred_keys(pile: Any, seat: Any) -> None:
    before = review.progress(pile.database, "triage")
    assert before.waiting >= 100
    async with seat(keys=("3",)) as someone:
        for number in range(100):
            await someone.pilot.press("arsa"[number % 4])
        await someone.settle()
    after = review.progress(pile.database, "triage")
    assert (after.accepted, after.rejected, after.skipped) == (50, 25, 25)
    assert after.waiting == before.waiting - 100


async def test_verdicts_are_stored_in_the_order_of_their_keys_for_the_cards_shown(pile: Any, seat: Any) -> None:
    cards = [card.exchange_id for card in review.queue(pile.database, "triage", limit=4)]
    async with seat(keys=("3", "a", "r", "s")) as someone:
        assert cards[3] == someone.app.screen.state().exchange_id
    verdicts = {one.exchange_id: (one.verdict, one.reviewer) for one in review.standing_verdicts(pile.database, "triage")}
    assert verdicts == {cards[0]: ("accept", "ana"), cards[1]: ("reject", "ana"), cards[2]: ("skip", "ana")}


async def test_undo_brings_the_card_back_and_takes_the_verdict_out_of_the_store(pile: Any, seat: Any) -> None:
    async with seat(keys=("3",)) as someone:
        first = someone.app.screen.state().exchange_id
        await someone.press("r", "a", "u", "u")
        assert someone.app.screen.state().exchange_id == first
        assert review.standing_verdicts(pile.database, "triage") == []
        await someone.press("u")
        assert "no verdict" in someone.told()[-1]


async def test_an_edit_saves_the_new_target(pile: Any, seat: Any) -> None:
    card = review.queue(pile.database, "triage", limit=1)[0]
    async with seat(keys=("3", "e", "f7", "backspace", *"new", "enter", *"line", "ctrl+s")):
        pass
    (made,) = review.standing_verdicts(pile.database, "triage")
    assert (made.exchange_id, made.verdict) == (card.exchange_id, "edit")
    assert made.target == "new\nline"


async def test_leaving_the_editor_leaves_the_card(pile: Any, seat: Any) -> None:
    async with seat(keys=("3",)) as someone:
        first = someone.app.screen.state().exchange_id
        await someone.press("e", *"aru1", "escape")
        assert someone.app.screen.state().exchange_id == first
    assert review.standing_verdicts(pile.database, "triage") == []


async def test_a_digit_gives_the_card_a_frequent_target_in_one_key(pile: Any, seat: Any) -> None:
    async with seat(keys=("3",)) as someone:
        targets = someone.app.screen.query_one("#targets").render().plain
        assert "[1] " in targets
        before = review.queue(pile.database, "triage", limit=1)[0]
        chosen = 1 if before.target not in targets.split("[2]")[0] else 2
        await someone.press(str(chosen))
    (made,) = review.standing_verdicts(pile.database, "triage")
    assert made.verdict == "edit"
    assert made.target != before.target


async def test_with_no_card_left_digits_go_to_screens_again(captured: Any, seat: Any) -> None:
    async with seat(keys=("3", "6")) as someone:
        assert someone.app.current_mode == "rollout"


async def test_all_cards_done_says_what_follows(pile: Any, seat: Any) -> None:
    for card in review.queue(pile.database, "triage", limit=1_000)[1:]:
        review.record(pile.database, "triage", card.exchange_id, "accept", reviewer="ben")
    async with seat(keys=("3", "a")) as someone:
        assert "Nothing waits in triage" in someone.text
        assert "potstill dataset build triage" in someone.text


async def test_read_only_refuses_verdicts_and_says_why(pile: Any, seat: Any) -> None:
    async with seat(read_only=True, keys=("3", "a", "r", "e", "s", "1")) as someone:
        assert "Read-only" in someone.told()[-1]
        assert someone.app.screen.state().screen == "review"
    assert review.standing_verdicts(pile.database, "triage") == []


async def test_a_verdict_that_cannot_be_written_is_told_and_the_pile_read_anew(pile: Any, seat: Any) -> None:
    async with seat(keys=("3",)) as someone:
        first = someone.app.screen.state().exchange_id
        with pile.database.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE reviews RENAME TO elsewhere")
        await someone.press("a")
        assert "reviews" in someone.told()[0]
        with pile.database.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO reviews")
        await someone.press("1", "3")
        assert someone.app.is_running
    assert review.queue(pile.database, "triage", limit=1)[0].exchange_id == first


async def test_the_task_in_focus_is_kept_between_screens(captured: Any, seat: Any) -> None:
    captured.send(*captured.tickets(80), *captured.tickets(80, task="it_desk"), every_s=0.1)
    captured.build("triage")
    captured.build("it_desk")
    async with seat(keys=("3",)) as someone:
        assert "it_desk" in someone.rows()[1]
        await someone.press("n")
        assert "triage" in someone.rows()[1]
        await someone.press("tab", "shift+tab")
        assert "triage" in someone.rows()[1]


async def test_a_focus_without_examples_neither_changes_the_pile_nor_is_lost(pile: Any, seat: Any) -> None:
    pile.send({"task": "summarise"}, {"task": "summarise"})
    async with seat(keys=("3", "a", "escape", "j", "3")) as someone:
        assert someone.app.desk.task == "summarise"
        assert "triage" in someone.rows()[1]
        await someone.press("u")
    assert review.standing_verdicts(pile.database, "triage") == []


async def test_hostile_targets_and_prompts_are_shown_as_text(pile: Any, seat: Any) -> None:
    evil = "\x1b[2J[bold]x[/] \u202e\u2066 \x00 \ud800\U000e0041" + "x" * 100_000
    messages = json.dumps([{"role": "system", "content": evil}, {"role": "user", "content": evil}])
    with pile.database.write() as connection:
        sql = text("UPDATE examples SET messages = :messages, note = :evil, target = :evil")
        connection.execute(sql, {"messages": messages, "evil": evil.replace("\ud800", "").replace("\x00", "")})
    async with seat(keys=("3",)) as someone:
        for key in ("a", "z", "e", "escape", "1", "exclamation_mark", "escape"):
            await someone.press(key)
            assert not any("\x1b" in row or "\u202e" in row or "\x00" in row for row in someone.rows())
