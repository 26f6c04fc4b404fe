"""Traffic on a real store: following, pausing, filtering, opening, copying, and data that means harm."""

from __future__ import annotations

from typing import Any

import pytest
from textual.events import MouseScrollDown

HOSTILE = [
    "[bold red]markup[/bold red] [/] [link='x'] $var",
    "\x1b[2J\x1b[1;1H\x1b]52;c;ZXZpbA==\x07 escapes",
    "NUL \x00 and \x07 and \x9b31m",
    "\u202egnp.exe\u202c \u2066hidden\u2069",
    "👨‍👩‍👧‍👦 👍🏽 🇩🇪 ❤️ 加加加 مرحبا",
    "x" * 1_000_000,
    "\n" * 5_000,
]


def tickets(count: int, **fields: Any) -> list[dict[str, Any]]:
    queues = ("billing", "urgent", "other")
    return [{"question": f"Ticket {n}: card charged twice.", "answer": queues[n % 3], **fields} for n in range(count)]


def mixed() -> list[dict[str, Any]]:
    return [
        *tickets(12, variant="baseline", unit="u1", flag_revision=1),
        {
            "task": "invoice-fields",
            "answer": '{"no": "A-17", "total": "12.50"}',
            "model": "claude-haiku-4-5",
            "latency_us": 2_840_000,
        },
        {"variant": "candidate", "model": "triage@r1", "upstream": "engine", "unit": "u2", "latency_us": 310_000},
        {"variant": "candidate", "fallback": "engine: connection refused", "unit": "u3", "flag_revision": 1},
        {"status": 429, "answer": b'{"error": {"message": "rate limit"}}', "error": "rate limit reached", "latency_us": 90_000},
        {"status": 0, "state": "timeout", "answer": b"", "error": "no first byte within 60 s", "task": ""},
    ]


async def test_traffic_80x24_full(captured: Any, seat: Any, snapshot: Any) -> None:
    captured.send(*mixed())
    async with seat() as someone:
        snapshot(someone)


async def test_traffic_60x16_full(captured: Any, seat: Any, snapshot: Any) -> None:
    captured.send(*mixed())
    async with seat(size=(60, 16)) as someone:
        snapshot(someone)


async def test_traffic_120x40_full(captured: Any, seat: Any, snapshot: Any) -> None:
    captured.send(*mixed())
    async with seat(size=(120, 40), keys=("j", "j", "j")) as someone:
        snapshot(someone)


async def test_an_exchange_whose_content_was_left_out_says_so(captured: Any, seat: Any) -> None:
    captured.send({"answer": "confidential words", "begin": {"content": "omit"}})
    async with seat() as someone:
        assert "(not stored)" in someone.text and "confidential" not in someone.text
        await someone.press("enter")
        assert "(not stored)" in someone.text and "confidential" not in someone.text


async def test_traffic_80x24_empty(seat: Any, snapshot: Any) -> None:
    async with seat() as someone:
        snapshot(someone)


async def test_traffic_80x24_help(seat: Any, snapshot: Any) -> None:
    async with seat(keys=("question_mark",)) as someone:
        snapshot(someone)


async def test_traffic_80x24_opened(captured: Any, seat: Any, snapshot: Any) -> None:
    captured.send(*mixed())
    async with seat(keys=("j", "j", "enter")) as someone:
        snapshot(someone)


async def test_traffic_80x24_commands(captured: Any, seat: Any, snapshot: Any) -> None:
    captured.send(*mixed())
    async with seat(keys=("exclamation_mark",)) as someone:
        snapshot(someone)


async def test_a_stored_exchange_appears_on_top_while_following(captured: Any, seat: Any) -> None:
    captured.send(*tickets(3))
    async with seat() as someone:
        captured.send({"answer": "the newest"})
        await someone.poll()
        assert "the newest" in someone.rows()[3]


async def test_nothing_shifts_under_the_cursor_after_a_move_and_newer_ones_are_counted(captured: Any, seat: Any) -> None:
    captured.send(*tickets(20))
    async with seat(keys=("j", "j")) as someone:
        before = someone.rows()[3:12]
        captured.send(*tickets(7, answer="later"))
        await someone.poll()
        assert someone.rows()[3:12] == before
        assert "PAUSED 7 newer, f follows" in someone.text
        await someone.press("f")
        assert "LIVE" in someone.text
        assert "later" in someone.rows()[3]


async def test_moving_up_past_the_first_row_brings_the_newer_ones_back(captured: Any, seat: Any) -> None:
    captured.send(*tickets(5))
    async with seat(keys=("j",)) as someone:
        captured.send(*tickets(4, answer="later"))
        await someone.poll()
        await someone.press("k", "k", "k", "k", "k")
        assert someone.app.screen.state().rows == 9
        assert "later" in someone.rows()[3]


async def test_the_wheel_pauses_and_a_click_opens(captured: Any, seat: Any) -> None:
    captured.send(*tickets(40))
    async with seat() as someone:
        await someone.pilot._post_mouse_events([MouseScrollDown], "#exchanges", offset=(5, 5))
        await someone.settle()
        assert "PAUSED" in someone.text
        assert someone.rows()[6].startswith(">")
        await someone.pilot.click("#exchanges", offset=(5, 2))
        await someone.pilot.click("#exchanges", offset=(5, 2))
        await someone.settle()
        assert someone.app.screen.state().screen == "exchange"


async def test_the_whole_list_can_be_walked_by_pages_from_both_ends(captured: Any, seat: Any) -> None:
    captured.send(*tickets(520), every_s=0.01)
    async with seat(size=(80, 120), keys=("G",)) as someone:
        table = someone.app.screen.query_one("#exchanges")
        assert table.row.id == min(row.id for row in table.rows)
        seen = [table.row.id]
        for _ in range(16):
            await someone.press("pageup")
            seen.append(table.row.id)
        assert seen == sorted(seen)
        await someone.press("g")
        newest = table.row.id
        assert newest >= max(seen)
        for _ in range(16):
            await someone.press("pagedown")
        assert table.row.id == seen[0]


async def test_a_filter_narrows_while_it_is_typed_and_escape_brings_everything_back(captured: Any, seat: Any) -> None:
    captured.send(*mixed())
    async with seat(keys=("slash", *"status>=400", "enter")) as someone:
        assert someone.app.screen.state().rows == 1
        assert "1 match" in someone.text
        await someone.press("escape")
        assert someone.app.screen.state().rows == 17


async def test_a_filter_that_cannot_be_read_is_named_and_leaves_the_list(captured: Any, seat: Any) -> None:
    captured.send(*tickets(3))
    async with seat(keys=("slash", *"taks:triage")) as someone:
        assert "taks" in someone.rows()[1]
        assert "!" in someone.rows()[1]
        assert someone.app.screen.state().rows == 3
        await someone.press("escape")
        assert "taks" not in someone.text


async def test_a_filter_without_a_match_says_how_to_go_on(captured: Any, seat: Any) -> None:
    captured.send(*tickets(3))
    async with seat(keys=("slash", *"task:none", "enter")) as someone:
        assert "[esc] clears it" in someone.text


async def test_letters_typed_into_the_filter_are_text_not_actions(captured: Any, seat: Any) -> None:
    captured.send(*tickets(3))
    async with seat(keys=("slash", *"jkq1")) as someone:
        assert someone.app.screen.state().filter == "jkq1"
        assert someone.app.current_mode == "traffic"


async def test_copying_says_what_and_how_much(captured: Any, seat: Any) -> None:
    captured.send({"answer": "billing"})
    async with seat(keys=("y",)) as someone:
        assert someone.app.clipboard == "billing"
        assert "7 characters" in someone.told()[-1]


async def test_with_nothing_captured_copy_gives_the_address_for_clients(seat: Any) -> None:
    async with seat(keys=("y",)) as someone:
        assert someone.app.clipboard == "OPENAI_BASE_URL=http://127.0.0.1:8484/v1"


async def test_opening_shows_the_whole_exchange_and_copies_it(captured: Any, seat: Any) -> None:
    captured.send({"question": "Where is my refund?", "answer": "line one\nline two"})
    async with seat(keys=("enter",)) as someone:
        assert "Where is my refund?" in someone.text
        await someone.press("G", "y")
        assert "line one\nline two" in someone.app.clipboard
        await someone.press("escape")
        assert someone.app.screen.state().screen == "traffic"


async def test_losses_are_said_in_words(captured: Any, seat: Any) -> None:
    from sqlalchemy import text

    captured.send(*tickets(2))
    with captured.database.write() as connection:
        connection.execute(text("INSERT INTO gaps VALUES ('g1', 'sp_x', 1, 2, 41, 'disk full')"))
    async with seat() as someone:
        assert "! 41 lost" in someone.text


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_hostile_data_is_shown_and_never_obeyed(captured: Any, seat: Any, size: tuple[int, int]) -> None:
    captured.send(*({"question": text, "answer": text, "system": text} for text in HOSTILE))
    captured.send(
        *({"begin": dict.fromkeys(("task", "model_asked", "user_name"), text[:500]), "unit": text[:500]} for text in HOSTILE),
        {"answer": b"\xff\xfe\x80 not utf-8 \xc3"},
        {"status": 502, "error": HOSTILE[1], "answer": b"\x1b[2J"},
    )
    async with seat(size=size) as someone:
        for _ in range(len(HOSTILE) * 2 + 2):
            await someone.press(*(("enter", "y", "escape", "j") if size == (80, 24) else ("j",)))
            assert all(len(row.encode("utf-8")) and "\x1b" not in row and "\u202e" not in row for row in someone.rows())
        await someone.press("slash", *"[/]\\[", "escape", "exclamation_mark", "escape", "question_mark")


async def test_a_store_that_is_gone_is_told_and_the_app_stays(captured: Any, seat: Any) -> None:
    captured.send(*tickets(3))
    async with seat() as someone:
        with captured.database.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE exchanges RENAME TO elsewhere")
        await someone.press("f", "f")
        assert any("exchanges" in words for words in someone.told())
        assert someone.app.is_running
        assert "billing" in someone.text
