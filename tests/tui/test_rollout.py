"""Rollout on a real flag: a share asks once, a rollback is one key, and every change is in the store."""

from __future__ import annotations

from typing import Any

from serve import flag_store


def shares(captured: Any, task: str = "triage") -> list[int]:
    return [change.share_bp for change in flag_store.history(captured.database, task)]


async def test_rollout_80x24_full(captured: Any, seat: Any, snapshot: Any) -> None:
    captured.release()
    captured.roll_out(3_000)
    async with seat(keys=("6",)) as someone:
        snapshot(someone)


async def test_rollout_80x24_staged(captured: Any, seat: Any, snapshot: Any) -> None:
    captured.release()
    captured.roll_out(3_000)
    async with seat(keys=("6", "L", "l", "enter")) as someone:
        snapshot(someone)


async def test_rollout_60x16_full(captured: Any, seat: Any, snapshot: Any) -> None:
    captured.release()
    captured.roll_out(3_000)
    async with seat(size=(60, 16), keys=("6",)) as someone:
        snapshot(someone)


async def test_rollout_80x24_empty(seat: Any, snapshot: Any) -> None:
    async with seat(keys=("6",)) as someone:
        snapshot(someone)


async def test_rollout_80x24_before_the_first_share(captured: Any, seat: Any, snapshot: Any) -> None:
    captured.release(state="failed")
    captured.release()
    async with seat(keys=("6",)) as someone:
        snapshot(someone)


async def test_one_key_rolls_back_without_a_question(captured: Any, seat: Any) -> None:
    captured.release()
    captured.roll_out(3_000, units=10)
    async with seat(keys=("6", "B")) as someone:
        assert shares(captured) == [3_000, 0]
        assert "30% -> 0%" in someone.told()[-1]
        assert "flag off" in someone.text
        await someone.press("B")
        assert "baseline has everything" in someone.told()[-1]
    assert flag_store.history(captured.database, "triage")[-1].who == "ana"


async def test_raising_a_share_asks_once_naming_old_and_new(captured: Any, seat: Any) -> None:
    captured.release()
    captured.roll_out(2_500, units=10)
    async with seat(keys=("6", "L", "l", "l", "l", "l", "l", "enter")) as someone:
        assert "25% -> 40%" in someone.text
        assert shares(captured) == [2_500]
        await someone.press("enter")
        assert shares(captured) == [2_500, 4_000]
        assert "flag on" in someone.text


async def test_a_no_keeps_the_share_and_escape_drops_what_is_staged(captured: Any, seat: Any) -> None:
    captured.release()
    captured.roll_out(2_500, units=10)
    async with seat(keys=("6", "L", "enter", "escape")) as someone:
        assert "not live yet: 25% -> 35%" in someone.text
        await someone.press("escape")
        assert "not live yet" not in someone.text
    assert shares(captured) == [2_500]


async def test_enter_with_nothing_staged_says_so(captured: Any, seat: Any) -> None:
    captured.release()
    async with seat(keys=("6", "enter")) as someone:
        assert "Nothing is staged" in someone.told()[-1]


async def test_the_share_stays_between_nothing_and_everything(captured: Any, seat: Any) -> None:
    captured.release()
    async with seat(keys=("6", "h", "H")) as someone:
        assert someone.app.screen.state().staged_bp == 0
        await someone.press(*["L"] * 11)
        assert someone.app.screen.state().staged_bp == 10_000


async def test_the_first_share_of_a_release_can_be_given_here(captured: Any, seat: Any) -> None:
    captured.release()
    async with seat(keys=("6", "L", "enter", "enter")):
        pass
    assert shares(captured) == [1_000]


async def test_without_a_ready_release_nothing_can_be_staged(captured: Any, seat: Any) -> None:
    captured.release(state="failed")
    async with seat(keys=("6", "l")) as someone:
        assert "No release is ready" in someone.told()[-1]
        assert "failed" in someone.text


async def test_read_only_refuses_share_and_rollback(captured: Any, seat: Any) -> None:
    captured.release()
    captured.roll_out(3_000, units=10)
    async with seat(read_only=True, keys=("6", "l", "enter", "B")) as someone:
        assert all("Read-only" in words for words in someone.told())
        assert len(someone.told()) == 3
    assert shares(captured) == [3_000]


async def test_several_tasks_are_walked_with_n_j_and_k(captured: Any, seat: Any) -> None:
    for task in ("triage", "routing", "summary"):
        captured.release(task=task)
    async with seat(keys=("6",)) as someone:
        seen = [someone.app.screen.state().task]
        for key in ("n", "j", "k"):
            await someone.press(key)
            seen.append(someone.app.screen.state().task)
        assert seen == ["routing", "summary", "triage", "summary"]
        assert someone.app.desk.task == "summary"


async def test_a_change_by_somebody_else_appears(captured: Any, seat: Any) -> None:
    captured.release()
    captured.roll_out(3_000, units=10)
    async with seat(keys=("6",)) as someone:
        flag_store.rollback(captured.database, "triage", who="ben", why="too many errors")
        await someone.poll()
        assert "flag off" in someone.text
        assert '"too many errors"' in someone.text


async def test_a_broken_division_of_units_is_said_loudly(captured: Any, seat: Any) -> None:
    captured.release()
    made = flag_store.set_share(captured.database, "triage", 1_000, unit="user", who="ana", why="")
    captured.send(
        *({"variant": "candidate", "unit": f"u{n}", "flag_revision": made.revision, "model": "triage@r1"} for n in range(80))
    )
    async with seat(keys=("6",)) as someone:
        assert "BROKEN" in someone.text
