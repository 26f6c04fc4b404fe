"""What a torture counts as lost, doubled, made up and changed."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from proxy.torture_ledger import Entry, Ledger, Stored, compare, read_ledger

QUESTION, ANSWER = b'{"n":1}', b"It is on its way."
WHOLE = Entry(1, sha256(QUESTION).hexdigest(), "ex_1", 200, len(ANSWER), sha256(ANSWER).hexdigest(), True)
STORED = Stored("ex_1", 1, 200, "complete", QUESTION, WHOLE.request_sha256, ANSWER, WHOLE.sha256)
CUT = replace(WHOLE, size=5, sha256=sha256(ANSWER[:5]).hexdigest(), is_whole=False)
UNANSWERED = Entry(1, WHOLE.request_sha256)


def counts(entries: list[Entry], stored: list[Stored]) -> tuple[int, int, int, int]:
    verdict = compare({entry.number: entry for entry in entries}, iter(stored), lambda _: QUESTION)
    assert verdict.is_clean == (not verdict.examples)
    return verdict.lost, verdict.duplicate, verdict.phantom, verdict.corrupt


@pytest.mark.parametrize(
    ("entry", "stored"),
    [
        (WHOLE, [STORED]),
        (CUT, [STORED]),
        (CUT, [replace(STORED, state="interrupted", response=ANSWER[:9], response_sha256="")]),
        (UNANSWERED, []),
        (UNANSWERED, [STORED]),
        (
            UNANSWERED,
            [replace(STORED, state="interrupted", request=QUESTION[:3], request_sha256="", response=b"", response_sha256="")],
        ),
    ],
    ids=["whole", "cut after the end was kept", "cut", "never arrived", "killed before its head", "killed in its request"],
)
def test_what_the_promise_allows_is_clean(entry: Entry, stored: list[Stored]) -> None:
    assert counts([entry], stored) == (0, 0, 0, 0)


def test_an_exchange_whose_head_was_seen_must_be_stored() -> None:
    assert counts([WHOLE], []) == (1, 0, 0, 0)
    assert counts([replace(CUT, size=0, sha256=sha256(b"").hexdigest())], []) == (1, 0, 0, 0)


def test_a_request_may_be_stored_only_once() -> None:
    assert counts([UNANSWERED], [STORED, replace(STORED, exchange_id="ex_2")]) == (0, 1, 0, 0)
    assert counts([WHOLE], [STORED, STORED]) == (0, 1, 0, 0)


def test_what_nobody_asked_for_is_a_phantom() -> None:
    assert counts([], [STORED]) == (0, 0, 1, 0)
    assert counts([WHOLE], [STORED, replace(STORED, number=None)]) == (0, 0, 1, 0)
    assert counts([WHOLE], [STORED, replace(STORED, exchange_id="ex_2")]) == (0, 0, 1, 0)


@pytest.mark.parametrize(
    ("entry", "change"),
    [
        (CUT, {"request": QUESTION[:3], "request_sha256": "", "state": "interrupted"}),
        (UNANSWERED, {"request": b"[", "request_sha256": "", "state": "interrupted"}),
        (UNANSWERED, {"request": QUESTION[:3], "request_sha256": ""}),
        (WHOLE, {"request": b"{}", "request_sha256": sha256(b"{}").hexdigest()}),
        (WHOLE, {"request_sha256": "0" * 64}),
        (WHOLE, {"response": ANSWER[:-1], "response_sha256": sha256(ANSWER[:-1]).hexdigest()}),
        (WHOLE, {"response": ANSWER[:-1] + b"!"}),
        (WHOLE, {"state": "interrupted"}),
        (WHOLE, {"status": 500}),
        (CUT, {"response": b"Other bytes", "response_sha256": "", "state": "interrupted"}),
        (CUT, {"response": ANSWER[:4], "response_sha256": "", "state": "interrupted"}),
    ],
    ids=[
        "answered request cut",
        "other request",
        "complete with a cut request",
        "request",
        "request hash",
        "answer cut",
        "answer changed",
        "state",
        "status",
        "another beginning",
        "less than received",
    ],
)
def test_bytes_hashes_and_states_must_be_those_of_the_wire(entry: Entry, change: dict[str, object]) -> None:
    assert counts([entry], [replace(STORED, **change)]) == (0, 0, 0, 1)  # type: ignore[arg-type]


def test_a_ledger_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    asked = ledger.ask(1, QUESTION)
    ledger.over(replace(WHOLE, request_sha256=asked.request_sha256))
    assert read_ledger(tmp_path / "ledger.jsonl") == {1: WHOLE}, "every line is on disk at once"
    second = ledger.ask(2, b"{}")
    ledger.close()
    assert read_ledger(tmp_path / "ledger.jsonl") == {1: WHOLE, 2: second}
    assert (ledger.asked, ledger.acked) == (2, 1)
