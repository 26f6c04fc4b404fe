"""The app as a whole: light to import, quick at a large store, every action reachable, colours readable."""

from __future__ import annotations

import subprocess
import sys
import time
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import text
from textual.color import Color

from tui import actions
from tui.actions import ACTIONS, SCREENS
from tui.palette import title
from tui.theme import DARK, LIGHT


def test_importing_the_app_loads_no_heavy_package() -> None:
    heavy = "{'sqlmodel', 'torch', 'litellm', 'sklearn', 'transformers', 'aiohttp', 'numpy', 'pydantic'}"
    code = f"import sys; import tui.app; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("screen", SCREENS)
async def test_every_action_of_a_screen_has_a_handler(seat: Any, screen: str) -> None:
    async with seat() as someone:
        someone.app._go(screen)
        await someone.settle()
        known = {**someone.app._handlers(), **someone.app.screen.handlers()}
        assert {action.id for action in actions.on_screen(screen)} <= set(known)


async def test_opened_exchanges_have_all_their_handlers(captured: Any, seat: Any) -> None:
    captured.send({})
    async with seat(keys=("enter",)) as someone:
        known = {**someone.app._handlers(), **someone.app.screen.handlers()}
        assert {action.id for action in actions.on_screen(actions.OPENED)} <= set(known)


@pytest.mark.parametrize("screen", ["traffic", "review", "rollout"])
async def test_no_action_raises_on_an_empty_store(seat: Any, screen: str) -> None:
    async with seat() as someone:
        for action in actions.on_screen(screen):
            if action.id != "app.quit":
                someone.app._go(screen)
                await someone.pilot.pause()
                someone.app.action_perform(action.id)
                await someone.pilot.pause()
                while len(someone.app.screen_stack) > 1:
                    someone.app.pop_screen()
        await someone.settle()
        assert someone.app.is_running


async def test_q_leaves(seat: Any) -> None:
    async with seat() as someone:
        await someone.pilot.press("q")
        await someone.pilot.pause()
        assert not someone.app.is_running


async def test_tab_walks_all_six_screens_and_comes_back(seat: Any) -> None:
    async with seat() as someone:
        seen = []
        for _ in range(7):
            seen.append(someone.app.current_mode)
            await someone.press("tab")
        assert seen == [*SCREENS, "traffic"]


@pytest.mark.parametrize(("key", "words"), [("2", "potstill tasks"), ("4", "potstill dataset list"), ("5", "potstill runs list")])
async def test_a_screen_that_follows_says_so_and_names_the_command(seat: Any, key: str, words: str) -> None:
    async with seat(keys=(key,)) as someone:
        assert "follows" in someone.text
        assert words in someone.text


async def test_screens_keep_their_place(captured: Any, seat: Any) -> None:
    captured.send(*({"answer": f"answer {n}"} for n in range(9)))
    async with seat(keys=("j", "j", "j", "6", "1")) as someone:
        assert ">12:00:05" in someone.text
        await someone.press("enter", "4", "1")
        assert someone.app.screen.state().screen == "exchange"


async def test_the_palette_offers_every_action_and_does_it(captured: Any, seat: Any) -> None:
    async with seat(keys=("colon",)) as someone:
        provider = type(next(iter(someone.app.COMMANDS)).__call__(someone.app.screen, None))
        found = [hit async for hit in provider(someone.app.screen, None).discover()]
        assert [hit.text or hit.display for hit in found] == [title(action) for action in ACTIONS]
        await someone.press(*"follow or pause", "enter")
        assert "PAUSED" in someone.text


async def test_the_palette_goes_to_the_screen_of_a_foreign_action_and_does_not_do_it(captured: Any, seat: Any) -> None:
    captured.release()
    captured.roll_out(3_000, units=10)
    async with seat(keys=("ctrl+p", *"roll back now", "enter")) as someone:
        await someone.settle()
        assert someone.app.current_mode == "rollout"
        assert "B does it here" in someone.told()[-1]
        assert "flag on" in someone.text


async def test_y_copies_the_first_command_from_the_overlay(captured: Any, seat: Any) -> None:
    captured.release()
    async with seat(keys=("6", "L", "exclamation_mark", "y")) as someone:
        assert someone.app.clipboard == "potstill flag set triage --share 10%"


async def test_the_same_words_are_on_the_screen_without_colour(captured: Any, seat: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    captured.send({"status": 500, "error": "engine is away"}, {"variant": "candidate"})
    async with seat() as someone:
        with_colour = someone.rows()
    monkeypatch.setenv("NO_COLOR", "1")
    async with seat() as someone:
        assert someone.rows() == with_colour


@pytest.mark.parametrize("theme", [DARK, LIGHT], ids=lambda theme: theme.name)
def test_text_can_be_read_in_both_themes(theme: Any) -> None:
    grounds = [theme.background, theme.surface, theme.panel, theme.boost]
    inks = [theme.foreground, theme.primary, theme.error, theme.success, theme.warning, theme.variables["text-muted"]]
    worst = min(contrast(ink, ground) for ink in inks for ground in grounds)
    assert worst >= 4.5


def contrast(ink: str, ground: str) -> float:
    """WCAG 2 contrast ratio."""
    light, dark = sorted((luminance(Color.parse(ink)), luminance(Color.parse(ground))), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(color: Color) -> float:
    parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in color.normalized]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))


async def test_the_first_rows_of_a_large_store_are_there_at_once(captured: Any, seat: Any) -> None:
    captured.send({"answer": "the first"})
    with captured.database.write() as connection:
        columns = [row[1] for row in connection.exec_driver_sql("PRAGMA table_info(exchanges)")]
        changed = {"id": "'ex_zz' || printf('%024d', n)", "started_us": "started_us + n * 1000", "output_text": "'number ' || n"}
        changed["number"] = "number + n"
        values = ", ".join(changed.get(name, name) for name in columns)
        connection.execute(
            text(
                "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 200000)"
                f" INSERT INTO exchanges ({', '.join(columns)}) SELECT {values} FROM numbers, exchanges"
            )
        )
    begun = time.perf_counter()
    async with seat() as someone:
        took = time.perf_counter() - begun
        assert "number 2000" in someone.rows()[3]
        assert "10,000+" in someone.rows()[1]
        for key, expected in (("G", "the first"), ("g", "number 2000")):
            begun = time.perf_counter()
            await someone.press(key)
            assert any(expected in row for row in someone.rows() if row.startswith(">"))
            took = max(took, time.perf_counter() - begun)
        table = someone.app.screen.query_one("#exchanges")
        assert all(newer.number > older.number for newer, older in pairwise(table.rows))
    assert took < 8  # a list that measures every row would need a minute
