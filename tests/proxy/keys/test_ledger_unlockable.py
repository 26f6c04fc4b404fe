"""A ledger whose lock the kernel does not give: nobody waits for ever, requests pass and are counted, nothing stays taken."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from capture.database import open_database
from proxy.keys.gate import FREE, Grant
from proxy.keys.ledger import Ledger, Wish
from proxy.keys.limits import Limits
from proxy.keys.settings import LimitSettings
from tests.proxy.keys.desk import desk, failed, until
from tests.proxy.keys.test_gate import use
from tests.proxy.keys.test_ledger import DEADLINE_S, NOW, new_ledger


@contextmanager
def unlockable(folder: Path) -> Iterator[None]:
    """Has the ledger's descriptors stand for something that cannot be locked; what is mapped already stays so."""
    place = str(folder / "ledger-1")
    fds = [int(each) for each in os.listdir("/proc/self/fd") if _leads_to(each) == place]
    kept, other = os.dup(fds[0]), os.open(folder, os.O_PATH)
    for fd in fds:
        os.dup2(other, fd, inheritable=False)
    try:
        yield
    finally:
        for fd in fds:
            os.dup2(kept, fd, inheritable=False)
        os.close(kept)
        os.close(other)


def _leads_to(fd: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""


def test_a_lock_that_fails_is_told_each_time_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    ledger = new_ledger(tmp_path)
    wishes = [Wish("key:a", Limits(concurrent=1))]
    told: list[str] = []

    def take(ledger: Ledger) -> None:
        for _ in range(2):
            try:
                ledger.take(wishes, 0, 0, NOW)
            except OSError as error:
                told.append(str(error))

    with unlockable(tmp_path):
        asking = threading.Thread(target=take, args=(ledger,), daemon=True)
        asking.start()
        asking.join(DEADLINE_S)
        assert len(told) == 2
    assert ledger.take(wishes, 0, 0, NOW) is None
    ledger.close()


@pytest.mark.parametrize("is_kept", [True, False])
def test_requests_pass_and_what_they_held_comes_back_when_the_lock_does(tmp_path: Path, is_kept: bool) -> None:
    url = f"sqlite:///{tmp_path / 'potstill.db'}"
    open_database(url).close()
    with desk(tmp_path / "a", url, limits={"triage": LimitSettings(concurrent=2, usd_per_day=1)}) as found:
        grants = [found.ask("sk", task="triage") for _ in range(2)]
        assert failed(found.ask("sk", task="triage"))[0] == 429
        with unlockable(tmp_path / "a" / "ledger"):
            assert found.ask("sk", task="triage") is FREE
            assert found.gate.status()["unlimited"] == 1
            for grant in grants:
                assert isinstance(grant, Grant)
                if is_kept:
                    grant.cancel()
                else:
                    grant.end(is_kept=False)
            assert found.gate.status()["put_off"] == 4
        until(lambda: not found.gate.status()["put_off"])
        reserved, spent = use(found, "task:triage")
        assert reserved == 0
        assert bool(spent) is not is_kept
        assert isinstance(found.ask("sk", task="triage"), Grant)
