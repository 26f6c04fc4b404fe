"""Traffic for curation: exchanges written as a relay writes them and drained by the real store writer."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import text

from capture import ids
from capture.database import Database
from capture.pricing import PriceTable
from capture.records import Begin, End, Head
from capture.spool import SpoolWriter
from capture.writer import StoreWriter

NEARUP = Path(__file__).parents[3] / "shared" / "data" / "nearup"
SYSTEM = 'You sort mail. Choose one queue: billing, parcel, account. Reply only with JSON: {"queue": "..."}'
FIRST_MS = 1_767_225_600_000  # 1 January 2026


@dataclass(frozen=True)
class Sent:
    """One exchange to write; `raw` replaces the answer's body, `extra` its finish reason and the like."""

    question: str
    answer: str = ""
    task: str = "mail"
    system: str = SYSTEM
    user: str = ""
    session: str = ""
    unit: str = ""
    variant: str = ""
    release_id: str = ""
    purpose: str = "app"
    status: int = 200
    state: str = "complete"
    finish: str = "stop"
    protocol: str = "openai"
    path: str = "/v1/chat/completions"
    upstream: str = "openai"
    messages: tuple[dict[str, Any], ...] = ()
    answer_message: dict[str, Any] | None = None
    content: str = ""


def raw_id(number: int) -> bytes:
    """The same UUIDv7 for the same number, a second apart."""
    raw = bytearray((FIRST_MS + 1_000 * number).to_bytes(6, "big") + number.to_bytes(10, "big"))
    raw[6] = 0x70 | (raw[6] & 0x0F)
    raw[8] = 0x80 | (raw[8] & 0x3F)
    return bytes(raw)


@dataclass
class Traffic:
    """A store that fills through its real path; `send` returns the ids of the exchanges, in order."""

    database: Database
    spool_root: Path
    number: int = 0
    ids: list[str] = field(default_factory=list)

    def send(self, sent: Sequence[Sent]) -> list[str]:
        spool = SpoolWriter(self.spool_root, sync_interval_s=60)
        new = []
        for one in sent:
            raw = raw_id(self.number)
            self.number += 1
            _write(spool, raw, one)
            new.append(ids.format_id("ex", raw))
        spool.close()
        writer = StoreWriter(self.database, self.spool_root, PriceTable({}, 0.0))
        try:
            assert writer.drain() == len(sent)
        finally:
            writer.close()
        self.ids += new
        return new

    def damage(self, *exchange_ids: str) -> None:
        """Makes what is stored of these exchanges unreadable."""
        sql = text("UPDATE contents SET zstd = :bytes WHERE number = (SELECT number FROM exchanges WHERE id = :id)")
        with self.database.write() as connection:
            for id in exchange_ids:
                connection.execute(sql, {"bytes": b"\0\xffdamaged", "id": id})


def _write(spool: SpoolWriter, raw: bytes, one: Sent) -> None:
    body = _request(one)
    spool.begin(
        raw,
        Begin(
            "POST", one.path, "", one.protocol, task=one.task, unit=one.unit, user_name=one.user, session_name=one.session,
            purpose=one.purpose, model_asked="teacher-1", variant=one.variant, release_id=one.release_id, upstream=one.upstream,
            body=body, content=one.content,
        ),
    )  # fmt: skip
    spool.head(raw, Head(one.status, {"content-type": "application/json"}, one.upstream, "teacher-1"))
    spool.part(raw, _response(one))
    spool.end(raw, End(one.status, one.state, latency_us=900, upstream=one.upstream, model_served="teacher-1"))


def _request(one: Sent) -> bytes:
    if one.protocol == "anthropic":
        asked = {"system": one.system, "messages": [{"role": "user", "content": one.question}], "max_tokens": 99}
    else:
        turns = [{"role": "system", "content": one.system}, {"role": "user", "content": one.question}]
        asked = {"messages": list(one.messages) or turns}
    return json.dumps({"model": "teacher-1", **asked}).encode()


def _response(one: Sent) -> bytes:
    if one.status >= 400:
        return json.dumps({"error": {"message": "overloaded"}}).encode()
    if one.protocol == "anthropic":
        content = [{"type": "text", "text": one.answer}]
        usage = {"input_tokens": 50, "output_tokens": 5}
        stop = "end_turn" if one.finish == "stop" else one.finish
        body = {
            "type": "message",
            "role": "assistant",
            "model": "teacher-1",
            "content": content,
            "stop_reason": stop,
            "usage": usage,
        }
        return json.dumps(body).encode()
    message = one.answer_message or {"role": "assistant", "content": one.answer}
    choice = {"index": 0, "message": message, "finish_reason": one.finish}
    usage = {"prompt_tokens": 50, "completion_tokens": 5}
    return json.dumps({"id": "c", "model": "teacher-1", "choices": [choice], "usage": usage}).encode()


def mails(count: int, first: int = 0) -> list[Sent]:
    """`count` mails, all of different wording, with their queues."""
    words = _words()
    out = []
    for number in range(first, first + count):
        chosen = random.Random(number).sample(words, 9)
        queue = ("billing", "parcel", "account")[number % 3]
        out.append(Sent(" ".join(chosen), json.dumps({"queue": queue}), user=f"u{number % 50}", unit=f"u{number % 50}"))
    return out


def _words() -> list[str]:
    syllables = [a + b for a in "bdfgklmnprst" for b in ("a", "e", "i", "o", "u")]
    return [one + two + three for one in syllables[::3] for two in syllables[::5] for three in ("l", "rk", "n")]
