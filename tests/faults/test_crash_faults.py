"""The store writer dies before each single thing it does to store or disk; the next one finishes, and nothing shows."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from capture import feed
from capture.database import open_database
from capture.exchange import COMPLETE, INTERRUPTED
from capture.filters import parse_filter
from capture.pricing import PriceTable
from capture.spool import SpoolWriter
from capture.writer import StoreWriter
from tests.capture.conftest import ANSWER

_ENDLESS = 1_000


class Died(BaseException):
    """Stands for signal 9: no handler of ours catches it."""


@contextmanager
def dying_at(step: int) -> Iterator[list[int]]:
    """Dies before effect number `step`: a statement, a commit, a file or folder removed. The list counts what happened."""
    done = [0]

    def effect(*_: object) -> None:
        if done[0] == step:
            raise Died
        done[0] += 1

    def before(real: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            effect()
            return real(*arguments, **named)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("unlink", "rmdir"):
            patch.setattr(os, name, before(getattr(os, name)))
        event.listen(Engine, "before_cursor_execute", effect)
        event.listen(Engine, "commit", effect)
        try:
            yield done
        finally:
            event.remove(Engine, "before_cursor_execute", effect)
            event.remove(Engine, "commit", effect)


def drain(url: str, root: Path) -> None:
    """One life of a store writer; like a dying process it lets go of its locks."""
    database = open_database(url)
    writer = StoreWriter(database, root, PriceTable({}))
    try:
        writer.drain()
    finally:
        writer.close()
        database.close()


@pytest.mark.faults
def test_f01_a_store_writer_may_die_at_any_step_and_nothing_is_lost_or_doubled(tmp_path: Path, make_relay: Any) -> None:
    relay = make_relay(SpoolWriter(tmp_path / "whole", segment_bytes=3_000))
    answers = [ANSWER.replace(b"way", b"way %d" % number) for number in range(30)]
    for answer in answers:
        relay.exchange(answer=answer, parts=2)
    relay.open()
    relay.spool.close()
    name = relay.spool.folder.name
    assert len(list(relay.spool.folder.glob("*.seg"))) > 3
    open_database(f"sqlite:///{tmp_path / 'empty.db'}").close()
    for step in range(_ENDLESS):
        root, store = tmp_path / f"spool{step}", tmp_path / f"{step}.db"
        shutil.copytree(tmp_path / "whole", root)
        shutil.copyfile(tmp_path / "empty.db", store)
        url = f"sqlite:///{store}"
        with dying_at(step) as done, suppress(Died):
            drain(url, root)
        drain(url, root)
        database = open_database(url)
        found = feed.page(database, parse_filter(""), limit=1_000)
        bodies = [content.response_body for content in feed.contents(database, found).values()]
        database.close()
        assert {exchange.id for exchange in found} == set(relay.sent), f"after a death before effect {step}"
        assert sorted(body for body in bodies if body) == sorted(answers)
        assert {exchange.state for exchange in found if exchange.id != relay.sent[-1]} == {COMPLETE}
        assert [exchange.state for exchange in found if exchange.id == relay.sent[-1]] == [INTERRUPTED]
        assert not (root / name).exists()
        shutil.rmtree(root)
        if done[0] < step:
            break
    assert 10 < step < _ENDLESS - 1
    print(f"F1: the store writer died at {step} different steps")
