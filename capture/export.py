"""Writes exchanges out: as JSON lines, or as OpenTelemetry spans to a file or to a collector.

A file is written beside its place and moved there when it is whole, readable by its owner alone, and remembered in the
store, so that an erasure finds it. What is exported is what was stored when the export began, in the order of storing.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from capture import exported, feed, feedback
from capture.database import Database
from capture.errors import SettingsError, StoreError
from capture.exchange import Content, Exchange
from capture.feedback import Feedback
from capture.filters import Filter, parse_filter
from capture.progress import Progress

if TYPE_CHECKING:
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

    from capture.otel_send import Collector

JSONL, OTLP = exported.JSONL, exported.OTLP
FORMATS = (JSONL, OTLP)
_SPANS_AT_ONCE = 200
_BYTES_AT_ONCE = 2 << 20
_COUNT_CAP = 100_000_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is exported. `with_content`: prompts and answers, too; `with_raw`: JSON lines also carry headers and both bodies.

    Only what was stored after the exchange with number `start`.
    """

    filter: Filter
    format: str = JSONL
    with_content: bool = True
    with_raw: bool = False
    start: int = 0


@dataclass(frozen=True, slots=True)
class Export:
    """What was exported: how many exchanges, bytes written or sent, and the number to go on from (`start`)."""

    exchanges: int
    bytes: int
    last_number: int


def to_file(database: Database, wanted: Wanted, path: Path, on_progress: Progress, *, is_forced: bool = False) -> Export:
    """Writes `path`, or the file that it is a link to; what was there is replaced when all is written, if `is_forced`.

    A device or a pipe is written into as it is, and not remembered. SettingsError when `path` is taken or in no folder,
    StoreError when it cannot be written.
    """
    target = Path(os.path.realpath(path))
    with _errors_of(path):
        kind = _kind_of(path)
        if kind and not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
            with os.fdopen(os.open(path, os.O_WRONLY), "wb") as stream:
                return to_stream(database, wanted, stream, on_progress)
    if stat.S_ISDIR(kind) or not target.parent.is_dir():
        raise SettingsError(
            f"{path} cannot be written: there is no such folder, or it is one.", "Give a file in a folder that is there."
        )
    if kind and not is_forced:
        raise SettingsError(f"{path} is already there.", "Give another file, or replace it: --force.")
    part = target.with_name(f".{target.name}.part")
    with _errors_of(path):
        try:
            with os.fdopen(os.open(part, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
                os.fchmod(file.fileno(), 0o600)
                done = to_stream(database, wanted, file, on_progress)
                file.flush()
                os.fsync(file.fileno())
            exported.remember(database, target, wanted.format, wanted.filter.text)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    return done


def to_stream(database: Database, wanted: Wanted, stream: BinaryIO, on_progress: Progress) -> Export:
    """Writes to an open stream, line by line."""
    end, total = _plan(database, wanted)
    number = count = size = 0
    if wanted.format == JSONL:
        has_feedback = bool(feedback.page(database, parse_filter(""), limit=1))
        for exchange, content in feed.with_content(database, wanted.filter, start=wanted.start, end=end):
            said = feedback.of_exchange(database, exchange.id) if has_feedback else []
            size += stream.write(_line(_object(wanted, exchange, content, said)))
            number, count = exchange.number, count + 1
            on_progress("export", count, total)
    else:
        from capture import otel

        for spans, last in batches(database, wanted, end):
            size += stream.write(otel.json_of(otel.request_of(spans)).encode("utf-8", "backslashreplace") + b"\n")
            number, count = last, count + len(spans)
            on_progress("export", count, total)
    return Export(count, size, number or wanted.start)


def to_collector(database: Database, wanted: Wanted, collector: Collector, on_progress: Progress) -> Export:
    """Sends spans by OTLP over HTTP, batch after batch.

    UpstreamError when the collector refuses or stays away; its next step names the number from which to go on.
    """
    from capture import otel

    end, total = _plan(database, wanted)
    number, count, size = wanted.start, 0, 0
    for spans, last in batches(database, wanted, end):
        if not count:  # before the first is gone, so that an erasure knows
            exported.remember_collector(database, collector.address)
        size += collector.send(otel.request_of(spans), resume=f"--after {number}")
        number, count = last, count + len(spans)
        on_progress("send", count, total)
    return Export(count, size, number)


def _plan(database: Database, wanted: Wanted) -> tuple[int, int]:
    end = feed.newest(database)
    counted = parse_filter(f"{wanted.filter.text} number>{wanted.start}") if wanted.start else wanted.filter
    return end, feed.count(database, counted, _COUNT_CAP, longest_s=feed.PATIENT_S)


def batches(database: Database, wanted: Wanted, end: int) -> Iterator[tuple[list[Span], int]]:
    """Spans of what is stored up to number `end`, some hundred at a time, with the number of the last."""
    from capture.otel import span_of

    has_feedback = bool(feedback.page(database, parse_filter(""), limit=1))
    spans: list[Span] = []
    size = number = 0
    for exchange, content in feed.with_content(database, wanted.filter, start=wanted.start, end=end):
        said = feedback.of_exchange(database, exchange.id) if has_feedback else ()
        spans.append(span_of(exchange, content, said, feed.conversation_of(exchange, content) if wanted.with_content else None))
        size += spans[-1].ByteSize()
        number = exchange.number
        if len(spans) >= _SPANS_AT_ONCE or size >= _BYTES_AT_ONCE:
            yield spans, number
            spans, size = [], 0
    if spans:
        yield spans, number


def _object(wanted: Wanted, exchange: Exchange, content: Content, said: Sequence[Feedback]) -> dict[str, Any]:
    """One line: the fields of `Exchange`, then what was asked and answered, what people said, and the raw bodies."""
    found: dict[str, Any] = {name: getattr(exchange, name) for name in _FIELDS}
    found["tags"] = dict(exchange.tags)
    found["feedback"] = [dataclasses.asdict(each) for each in said]
    if wanted.with_content:
        conversation = feed.conversation_of(exchange, content)
        found["asked"] = [dataclasses.asdict(message) for message in conversation.asked]
        found["answer"] = dataclasses.asdict(conversation.answer) if conversation.answer else None
    else:
        found["output_text"] = ""
    if wanted.with_raw:
        found["request"] = _raw(content.request_headers, content.request_body, content.request_sha256)
        found["response"] = _raw(content.response_headers, content.response_body, content.response_sha256)
    return found


_FIELDS = tuple(field.name for field in dataclasses.fields(Exchange))


def _raw(headers: Any, body: bytes, sha256: str) -> dict[str, Any]:
    """A body that is not UTF-8 is written in base64."""
    try:
        written, how = body.decode(), "text"
    except UnicodeDecodeError:
        written, how = base64.b64encode(body).decode(), "base64"
    return {"headers": dict(headers), "body": written, "body_encoding": how, "sha256": sha256}


def _line(value: Any) -> bytes:
    """Valid JSON on one line; half of a surrogate pair becomes the escape that JSON has for it."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _kind_of(path: Path) -> int:
    """The mode of what `path` leads to, which says what it is; 0 when there is nothing."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return 0


@contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written: {error.strerror or error}.", "Give a place with space and write access."
        ) from error
