"""Feedback in Traffic: seen where the exchange is seen, and given with a key."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from capture import feedback
from capture.database import Database
from capture.feedback_forms import make_feedback
from capture.filters import parse_filter
from capture.records import OMIT

HOSTILE = "\x1b[2J[bold]x[/bold] \u202egnp.exe\u202c 加加 \x00"


def say(database: Database, **fields: Any) -> None:
    feedback.add(database, make_feedback(fields, source="api").notes)


def kept(database: Database) -> list[tuple[str, str, str, str]]:
    """(exchange, words, who, source) of all feedback, oldest first."""
    found = feedback.page(database, parse_filter(""))[::-1]
    return [(each.exchange_id, feedback.words(each), each.who, each.source) for each in found]


async def test_plus_and_minus_rate_the_exchange_under_the_cursor(captured: Any, seat: Any) -> None:
    captured.send({}, {"answer": "urgent"})
    async with seat(keys=("j",)) as someone:
        id = someone.app.screen.state().exchange_id
        await someone.press("minus")
        assert "feedback bad (ana)" in someone.text
        captured.frozen.move(1)
        await someone.press("plus")
        assert "feedback good (ana)   bad (ana)" in someone.text, "the newest first"
        assert someone.told() == [f"bad: {id}", f"good: {id}"]
    assert kept(captured.database) == [(id, "bad", "ana", "screen"), (id, "good", "ana", "screen")]


async def test_a_comment_is_written_and_an_empty_one_is_not(captured: Any, seat: Any) -> None:
    captured.send({})
    async with seat(keys=("enter", "c")) as someone:
        assert "Comment on the answer" in someone.text
        await someone.press("ctrl+s")
        assert "cannot be empty" in someone.told()[-1]
        await someone.press(*"slow", "ctrl+s")
        assert '"slow" (ana)' in someone.text
        await someone.press("c", "x", "escape")
    assert [words for _, words, _, _ in kept(captured.database)] == ["slow"]


async def test_feedback_of_an_app_appears_while_its_exchange_is_looked_at(captured: Any, seat: Any) -> None:
    captured.send({"begin": {"session_name": "s1"}}, {})
    async with seat(keys=("j",)) as someone:
        id = someone.app.screen.state().exchange_id
        assert "feedback" not in someone.text
        say(captured.database, exchange_id=id, name="tone", value="rude", user="u7")
        await someone.poll()
        assert "tone: rude (u7)" in someone.text
        await someone.press("enter")
        say(captured.database, session="s1", demonstration="urgent")
        await someone.poll()
        assert 'should be "urgent"' in someone.text


async def test_feedback_80x24_opened(captured: Any, seat: Any, snapshot: Any) -> None:
    captured.send({"system": "Sort."})
    async with seat() as someone:
        id = someone.app.screen.state().exchange_id
        say(captured.database, exchange_id=id, value=False, comment="This was about a login.", user="u7")
        say(captured.database, exchange_id=id, name="solved", value=0.25, demonstration="login_access", user="bo")
        await someone.poll()
        await someone.press("enter")
        snapshot(someone)


async def test_feedback_120x40_beside_the_list(captured: Any, seat: Any, snapshot: Any) -> None:
    captured.send({}, {})
    async with seat(size=(120, 40), keys=("j",)) as someone:
        id = someone.app.screen.state().exchange_id
        say(captured.database, exchange_id=id, value=False, comment="This was about a login. " * 20, user="u7")
        await someone.poll()
        snapshot(someone)


@pytest.mark.parametrize("size", [(60, 16), (80, 24), (120, 40)])
async def test_hostile_feedback_stays_text(size: tuple[int, int], captured: Any, seat: Any) -> None:
    captured.send({})
    async with seat(size=size) as someone:
        id = someone.app.screen.state().exchange_id
        say(captured.database, exchange_id=id, comment=HOSTILE * 50, name="加加", user="👨‍👩‍👧‍👦")
        await someone.poll()
        await someone.press("enter")
        assert not set("\x1b\u202e\x00") & set(someone.text)
        await someone.press("G")
        assert not set("\x1b\u202e\x00") & set(someone.text)


async def test_who_may_only_read_gives_no_feedback(captured: Any, seat: Any) -> None:
    captured.send({})
    async with seat(read_only=True, keys=("plus", "c")) as someone:
        assert all("Read-only" in told for told in someone.told())
        assert len(someone.told()) == 2
    assert kept(captured.database) == []


async def test_a_comment_is_kept_as_the_settings_want_personal_data(captured: Any, seat: Any) -> None:
    captured.settings = replace(captured.settings, sections={"capture": {"personal_data": "mask"}})
    captured.send({})
    async with seat(keys=("enter", "c")) as someone:
        await someone.press(*"ask ana", "at", *"example.org", "ctrl+s")
    assert [words for _, words, _, _ in kept(captured.database)] == ["ask [email]"]


async def test_a_comment_on_an_exchange_without_content_is_not_kept(captured: Any, seat: Any) -> None:
    captured.send({"begin": {"content": OMIT}})
    async with seat(keys=("enter", "minus", "c")) as someone:
        await someone.press(*"Ms Doe", "ctrl+s")
        assert "its content is not stored" in someone.told()[-1]
    assert [words for _, words, _, _ in kept(captured.database)] == ["bad"]
