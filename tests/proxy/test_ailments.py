"""What health names besides processes that do not run: the store and the spool."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from capture.settings import load_settings
from proxy.ailments import Recent, of_spool, of_store
from tests.proxy.housing import House, until_async
from tests.proxy.scripting import CHAT_ANSWER, Upstream, relay_settings, talk

KEY = "Authorization: Bearer sk-test\r\n"
CHAT = "POST /v1/chat/completions"
SECOND_US = 1_000_000
NOW_US = 1_800_000_000 * SECOND_US


async def test_a_house_that_cannot_store_is_ready_and_degraded_and_says_why(tmp_path: Path, upstream: Upstream) -> None:
    settings = relay_settings(tmp_path, upstream.url)
    assert settings.path is not None
    settings.path.write_text(settings.path.read_text("utf-8") + "[capture]\nspool_max_mib = 1\n", "utf-8")
    house = House(load_settings(settings.path, environ={}))
    await house.start()
    try:
        await until_async(lambda: house.get("/health/ready"), lambda said: said[1]["ailing"] == [])
        assert await house.get("/health/ready") == (200, {"is_ready": True, "is_degraded": False, "ailing": []})
        with closing(sqlite3.connect(settings.database_url.removeprefix("sqlite:///"), isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            for number in range(8):
                ask = b'{"model": "m", "messages": [{"role": "user", "content": "%s"}]}' % (b"%d " % number * 200_000)
                assert (await talk(house.port, CHAT, KEY, ask)).body == CHAT_ANSWER

            def is_told(said: tuple[int, dict[str, object]]) -> bool:
                ailing = str(said[1]["ailing"])
                return "store: database is locked" in ailing and "dropped in the last minute" in ailing

            await until_async(lambda: house.get("/health/ready"), is_told)
            status, said = await house.get("/health/ready")
            assert (status, said["is_ready"], said["is_degraded"]) == (200, True, True)
            other.execute("ROLLBACK")
        await until_async(lambda: house.get("/health/ready"), lambda said: "store" not in str(said[1]["ailing"]))
    finally:
        assert await house.stop() == 0


def test_what_was_lost_counts_for_a_minute() -> None:
    lost = Recent()
    lost.told(NOW_US, 0)
    assert lost.growth(NOW_US) == 0
    for second, total in ((1, 3), (1, 3), (2, 10), (40, 36)):
        lost.told(NOW_US + second * SECOND_US, total)
    assert lost.growth(NOW_US + 50 * SECOND_US) == 36
    assert lost.growth(NOW_US + 65 * SECOND_US) == 26
    lost.told(NOW_US + 70 * SECOND_US, 37)
    assert lost.growth(NOW_US + 100 * SECOND_US) == 27
    assert lost.growth(NOW_US + 131 * SECOND_US) == 0


def test_the_spool_says_how_many_exchanges_it_lost() -> None:
    assert of_spool(0, 0) == []
    assert of_spool(36, 0) == ["spool: 36 exchanges dropped in the last minute"]
    assert of_spool(1, 2) == [
        "spool: 1 exchange dropped in the last minute",
        "spool: 2 syncs refused by the disk in the last minute",
    ]


@pytest.mark.parametrize(
    ("problem", "lag_s", "said"),
    [
        ("", 0, []),
        ("", 60, []),
        ("", 75, ["store: 75 seconds behind the spool"]),
        ("The store answered: database is locked.", 75, ["store: database is locked"]),
        ("The store answered: database or disk is full.", 0, ["store: database or disk is full"]),
        (
            'The store answered: connection to server at "db.internal" (10.1.2.3), port 5432 failed: user "ann".',
            0,
            ["store: it cannot be written, and GET /status says why"],
        ),
        ("The store at /home/ann/potstill.db cannot be opened.", 0, ["store: it cannot be written, and GET /status says why"]),
    ],
)
def test_the_store_says_what_ails_it_and_names_no_host_path_or_person(problem: str, lag_s: int, said: list[str]) -> None:
    assert of_store(problem, NOW_US - lag_s * SECOND_US, NOW_US) == said
