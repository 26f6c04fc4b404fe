from __future__ import annotations

import threading

from capture.spool_sync import Ring, Syncer


def test_the_ring_keeps_the_newest_and_knows_its_first() -> None:
    ring = Ring(100)
    for number in range(20):
        ring.keep([(b"h" * 10, bytes([number]) * 10)], 20)
    assert ring.first == 15
    assert [payload[0] for _, payload in ring] == [15, 16, 17, 18, 19]
    ring.forget(18)
    assert (ring.first, len(list(ring))) == (18, 2)
    ring.forget(100)
    assert (ring.first, list(ring)) == (20, [])
    ring.keep([(b"h", b"x" * 200)], 201)
    assert (ring.first, list(ring)) == (21, [])


def test_those_who_wait_are_told_together() -> None:
    syncing, go_on, calls = threading.Event(), threading.Event(), []

    def sync() -> bool:
        calls.append(1)
        syncing.set()
        return go_on.wait(10)

    syncer = Syncer(sync, 3_600)
    told: list[bool] = []
    done = threading.Event()
    syncer.when_durable(told.append)
    assert syncing.wait(10)
    for _ in range(50):
        syncer.when_durable(told.append)
    syncer.when_durable(lambda is_durable: done.set())
    go_on.set()
    assert done.wait(10)
    assert told == [True] * 51
    assert len(calls) == 2
    syncer.close()
    assert not syncer.is_alive


def test_an_error_nobody_thought_of_neither_ends_the_thread_nor_lets_anybody_wait() -> None:
    answers: list[Exception | None] = [ValueError("odd"), ValueError("again"), None]

    def sync() -> bool:
        answer = answers.pop(0) if answers else None
        if answer is not None:
            raise answer
        return True

    syncer = Syncer(sync, 0.001)
    told: list[bool] = []
    heard = threading.Event()

    def tell(is_durable: bool) -> None:
        told.append(is_durable)
        heard.set()

    while not (told and told[-1]):
        heard.clear()
        syncer.when_durable(tell)
        assert heard.wait(10)
    assert not told[0]
    syncer.close()


def test_somebody_who_cannot_be_told_neither_ends_the_thread_nor_keeps_it_from_the_others() -> None:
    def gone(_is_durable: bool) -> None:
        raise RuntimeError("Event loop is closed")

    syncer = Syncer(lambda: True, 0.001)
    for _ in range(3):
        heard = threading.Event()
        syncer.when_durable(gone)
        syncer.when_durable(lambda _is_durable, heard=heard: heard.set())  # type: ignore[misc]
        assert heard.wait(10)
    assert syncer.is_alive
    syncer.when_durable(gone)
    syncer.close()
