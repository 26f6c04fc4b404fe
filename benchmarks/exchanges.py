"""Fills a spool the way a relay does, without a relay."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from capture import ids
from capture.exchange import COMPLETE
from capture.records import Begin, End, Head
from capture.spool import SpoolWriter

_REQUEST_HEADERS = {"accept": "application/json", "content-type": "application/json", "user-agent": "OpenAI/Python 2.0.0"}


@dataclass(frozen=True, slots=True)
class Made:
    """An exchange to spool: the request's body and the pieces of the answer."""

    task: str
    user: str
    request: bytes
    parts: tuple[bytes, ...]
    is_stream: bool = False
    session: str = ""
    status: int = 200


def spool_exchanges(root: Path, made: Iterable[Made]) -> int:
    """Spools `made` under `root` as a relay that has ended since; how many there were."""
    spool = SpoolWriter(root)
    count = 0
    for each in made:
        _spool(spool, each)
        count += 1
    spool.close()
    if spool.dropped:
        raise RuntimeError(f"The spool {root} lost {spool.dropped} exchanges.")
    return count


def _spool(spool: SpoolWriter, made: Made) -> None:
    raw_id = ids.new_raw_id()
    model = "gpt-4o-mini"
    spool.begin(
        raw_id,
        Begin(
            method="POST",
            path="/v1/chat/completions",
            query="",
            protocol="openai",
            task=made.task,
            unit=made.user,
            unit_source="user",
            user_name=made.user,
            session_name=made.session,
            model_asked=model,
            is_stream=made.is_stream,
            upstream="openai",
            request_headers=_REQUEST_HEADERS,
            body=made.request,
        ),
    )
    kind = "text/event-stream" if made.is_stream else "application/json"
    length = {} if made.is_stream else {"content-length": str(sum(map(len, made.parts)))}
    spool.head(raw_id, Head(made.status, {"content-type": kind, **length}, "openai", "", "", 400_000))
    answer = sha256()
    for part in made.parts:
        answer.update(part)
        spool.part(raw_id, part)
    hashes = (sha256(made.request).hexdigest(), answer.hexdigest())
    spool.end(raw_id, End(made.status, COMPLETE, "", "", 900_000, 400_000, 300, *hashes, "openai"))
