"""How many spooled exchanges the store writer stores in SQLite for each second of CPU time."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.exchanges import Made, spool_exchanges
from benchmarks.figures import Figure, Result, Tell
from benchmarks.payloads import BURST_EVENTS, TASK, answer_template, event_templates, numbered, prose, request_body
from capture.database import open_database
from capture.pricing import PriceSettings, load_price_table
from capture.writer import StoreWriter

JSON, STREAMS, PER_SECOND = "JSON exchanges of 3 KB", "streams of 100 events", "exchanges / CPU s"
_PARTS = 10
_WARM_UP = 20


@dataclass(frozen=True, slots=True)
class Counts:
    """Exchanges in one round, by kind."""

    json: int = 6_000
    streams: int = 1_500

    def scaled(self, scale: float) -> Counts:
        """As many exchanges times `scale`, and at least a few."""
        return Counts(*(max(10, round(each * scale)) for each in (self.json, self.streams)))


def measure(rounds: int, counts: Counts, tell: Tell, url: str | None = None) -> Result:
    """`rounds` rounds, each with a full spool and an empty store of its own for each kind of exchange.

    `url` is the address of a store to use in place of new SQLite ones; it fills up.
    """
    kinds: tuple[tuple[str, int, Callable[[int], Iterator[Made]]], ...] = (
        (JSON, counts.json, made_json),
        (STREAMS, counts.streams, made_streams),
    )
    speeds: dict[str, list[float]] = {name: [] for name, _, _ in kinds}
    _drain(kinds[0][2](_WARM_UP), _WARM_UP, url)
    for number in range(rounds):
        for name, count, make in kinds:
            spent = _drain(make(count), count, url)
            speeds[name].append(count / spent)
            tell(f"round {number + 1}: {name}: {speeds[name][-1]:.0f} / CPU s")
    group = "spool to SQLite" if url is None else "spool to PostgreSQL"
    per_second = [Figure(group, name, PER_SECOND, tuple(values)) for name, values in speeds.items()]
    each = [Figure(group, name, "us CPU / exchange", tuple(1e6 / value for value in values)) for name, values in speeds.items()]
    return Result("writer", {"json": counts.json, "streams": counts.streams}, (*per_second, *each))


def made_json(count: int) -> Iterator[Made]:
    """Exchanges of 3 KB together, no two alike."""
    for number in range(count):
        answer = numbered(answer_template(1_500), number).replace(b"000000 ", prose(number, 0).encode() + b" ", 1)
        request = request_body(number, is_stream=False, characters=750)
        yield Made(TASK, f"user_{number % 300:03d}", request, (answer,))


def made_streams(count: int) -> Iterator[Made]:
    """Streams of 100 events in ten pieces, no two alike."""
    events = event_templates(BURST_EVENTS)
    size = len(events) // _PARTS
    pieces = [b"".join(events[start : start + size]) for start in range(0, len(events), size)]
    for number in range(count):
        parts = tuple(numbered(piece, number) for piece in pieces)
        yield Made(TASK, f"user_{number % 300:03d}", request_body(number, is_stream=True), parts, is_stream=True)


def _drain(made: Iterator[Made], count: int, url: str | None) -> float:
    """CPU seconds that the store writer takes for `made`; RuntimeError when it does not store all of them."""
    prices = load_price_table(PriceSettings())
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        root = Path(folder)
        spool_exchanges(root / "spool", made)
        database = open_database(url or f"sqlite:///{root / 'potstill.db'}", is_checkpointer=True)
        writer = StoreWriter(database, root / "spool", prices)
        before = time.process_time()
        stored = writer.drain()
        spent = time.process_time() - before
        writer.close()
        database.close()
    if stored != count:
        raise RuntimeError(f"The store writer stored {stored} exchanges of {count}.")
    return spent
