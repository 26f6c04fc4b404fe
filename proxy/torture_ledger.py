"""What the client of a torture wrote down, held against what is in the store.

The ledger is an append-only file of JSON lines: one before a request is sent, one when its answer is over, be it whole or
cut. Nothing here knows of processes; `compare` is a function of two lists.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

from capture.exchange import COMPLETE

_NOTHING = sha256(b"").hexdigest()
_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Entry:
    """What the client knows about request `number`. `exchange_id` is empty, and `status` 0, when no head of an answer came.

    `size` and `sha256` are of the body's bytes that were received; `is_whole` says that the last one was among them.
    """

    number: int
    request_sha256: str
    exchange_id: str = ""
    status: int = 0
    size: int = 0
    sha256: str = _NOTHING
    is_whole: bool = False


class Ledger:
    """Writes a ledger at `path`; every line is in the kernel when the method returns. Close it when done."""

    def __init__(self, path: Path) -> None:
        self.asked = self.acked = 0
        """Requests sent, and answers that came whole, so far."""
        self._file = path.open("ab", buffering=0)

    def ask(self, number: int, body: bytes) -> Entry:
        """To be called before request `number` is sent."""
        entry = Entry(number, sha256(body).hexdigest())
        self._file.write(json.dumps({"number": number, "request_sha256": entry.request_sha256}).encode() + b"\n")
        self.asked += 1
        return entry

    def over(self, entry: Entry) -> None:
        """What became of a request of which at least the head of the answer came."""
        line = {name: getattr(entry, name) for name in ("number", "exchange_id", "status", "size", "sha256", "is_whole")}
        self._file.write(json.dumps(line).encode() + b"\n")
        self.acked += entry.is_whole

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def read_ledger(path: Path) -> dict[int, Entry]:
    """The entries of the ledger at `path` by number."""
    entries: dict[int, Entry] = {}
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            found = json.loads(line)
            number = found["number"]
            entries[number] = replace(entries[number], **found) if number in entries else Entry(**found)
    return entries


@dataclass(frozen=True, slots=True)
class Stored:
    """One exchange as the store gives it back; `number` is None when its request is none that was ever sent."""

    exchange_id: str
    number: int | None
    status: int
    state: str
    request: bytes
    request_sha256: str
    response: bytes
    response_sha256: str


@dataclass(slots=True)
class Verdict:
    """The comparison: how many answers came whole (`acked`), and the four counts that must be 0.

    `lost`: an exchange of which the client got at least the head is not in the store.
    `duplicate`: a request is in the store more than once.
    `phantom`: the store holds an exchange that was never asked for, or under an id that its client was not given.
    `corrupt`: bytes differ from what was sent or received, hashes from bytes, or a whole answer is not stored as complete.
    Of an exchange that was cut, what had arrived is enough: the beginning of the answer, and of a request never answered.
    """

    acked: int = 0
    stored: int = 0
    interrupted: int = 0
    """Exchanges that a kill cut, stored with what had arrived."""
    lost: int = 0
    duplicate: int = 0
    phantom: int = 0
    corrupt: int = 0
    examples: list[str] = field(default_factory=list)
    """The first few findings, in words."""

    @property
    def is_clean(self) -> bool:
        """True when nothing was lost, doubled, made up or changed."""
        return not (self.lost or self.duplicate or self.phantom or self.corrupt)

    def _note(self, text: str) -> None:
        if len(self.examples) < _EXAMPLES:
            self.examples.append(text)


def compare(entries: Mapping[int, Entry], stored: Iterable[Stored], sent: Callable[[int], bytes]) -> Verdict:
    """Holds the ledger against the store; `stored` may be a generator, and one exchange at a time is held.

    `sent` gives the body of a request again: of one whose client saw no answer, the beginning may be all that was kept.
    """
    verdict = Verdict(acked=sum(entry.is_whole for entry in entries.values()))
    seen: set[int] = set()
    for exchange in stored:
        verdict.stored += 1
        verdict.interrupted += exchange.state != COMPLETE
        entry = entries.get(exchange.number) if exchange.number is not None else None
        if entry is None or entry.exchange_id not in ("", exchange.exchange_id):
            verdict.phantom += 1
            verdict._note(f"{exchange.exchange_id} is stored, but no client knows it.")
            continue
        if entry.number in seen:
            verdict.duplicate += 1
            verdict._note(f"Request {entry.number} is stored again as {exchange.exchange_id}.")
            continue
        seen.add(entry.number)
        for what in _differences(entry, exchange, sent):
            verdict.corrupt += 1
            verdict._note(f"{exchange.exchange_id}: {what}")
            break
    for entry in entries.values():
        if entry.exchange_id and entry.number not in seen:
            verdict.lost += 1
            verdict._note(f"{entry.exchange_id} is not stored; its client got {entry.size} bytes of the answer.")
    return verdict


def _differences(entry: Entry, exchange: Stored, sent: Callable[[int], bytes]) -> Iterator[str]:
    request, response = sha256(exchange.request).hexdigest(), sha256(exchange.response).hexdigest()
    may_be_cut = not entry.exchange_id and exchange.state != COMPLETE
    if request != entry.request_sha256 and not (may_be_cut and sent(entry.number).startswith(exchange.request)):
        yield "the stored request is not the one that was sent."
    if exchange.request_sha256 not in ("", request) or exchange.response_sha256 not in ("", response):
        yield "a stored hash is not that of the stored body."
    if entry.is_whole and exchange.response_sha256 != entry.sha256:
        yield "the stored answer is not the one that was received."
    if sha256(exchange.response[: entry.size]).hexdigest() != entry.sha256:
        yield "what the client had received is not the beginning of the stored answer."
    if entry.status and exchange.status not in (0, entry.status):
        yield f"it is stored with status {exchange.status}, the client got {entry.status}."
    if entry.is_whole and entry.status == 200 and exchange.state != COMPLETE:
        yield f"its answer came whole, but it is stored as {exchange.state}."
