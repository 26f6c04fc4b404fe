"""An imported exchange as the relay would have spooled it, so that everything is derived in one way."""

from __future__ import annotations

from hashlib import blake2b, sha256

from capture import ids
from capture.exchange import COMPLETE, UPSTREAM_ABORTED
from capture.imports.imported import ImportedExchange
from capture.records import CUT, OMIT, Begin, End, Head
from capture.spool_reader import SpooledExchange

_NO_PLACE = (0, 0)
_JSON = {"content-type": "application/json"}
_LOGGED_ERROR = "logged_error"


def raw_id(format: str, imported: ImportedExchange) -> bytes:
    """16 bytes of a UUIDv7 with the original time in front (0 when the log names none) and a hash for its random bits.

    The same line gives the same id in every import, whichever file it stands in.
    """
    digest = blake2b(digest_size=10)
    for part in (format.encode(), imported.source_id.encode("utf-8", "replace"), imported.request, imported.response):
        digest.update(len(part).to_bytes(8, "big") + part)
    raw = bytearray(((imported.started_us or 0) // 1000).to_bytes(6, "big") + digest.digest())
    raw[6] = 0x70 | (raw[6] & 0x0F)
    raw[8] = 0x80 | (raw[8] & 0x3F)
    return bytes(raw)


def to_spooled(format: str, imported: ImportedExchange, *, task: str, fallback_us: int) -> SpooledExchange:
    """`imported` as records. `task`, where given, replaces its own; `fallback_us` stands for a time that the log lacks."""
    started_us = imported.started_us or fallback_us
    ended_us = max(started_us, imported.ended_us or started_us)
    upstream = f"import:{format}"
    unit = imported.user_name or (imported.session_name if imported.is_traffic else "")
    begin = Begin(
        "POST",
        imported.path,
        "",
        imported.protocol,
        task=task or imported.task,
        unit=unit,
        unit_source=("user" if imported.user_name else "session") if unit else "",
        user_name=imported.user_name,
        session_name=imported.session_name,
        environment=imported.environment,
        tags=dict(imported.tags),
        model_asked=imported.model_asked,
        is_stream=imported.is_stream,
        upstream=upstream,
        request_headers=dict(_JSON),
        body=imported.request,
        content="" if imported.has_content else OMIT,
    )
    head = Head(imported.status, dict(_JSON), upstream, imported.model_served, "", imported.first_byte_us)
    end = End(
        imported.status,
        COMPLETE if imported.status else UPSTREAM_ABORTED,
        "" if imported.status else _LOGGED_ERROR,
        "" if imported.status else imported.error_message,
        latency_us=None if imported.ended_us is None or imported.started_us is None else ended_us - started_us,
        first_byte_us=imported.first_byte_us,
        request_sha256=sha256(imported.request).hexdigest(),
        response_sha256=sha256(imported.response).hexdigest(),
        upstream=upstream,
        model_served=imported.model_served,
        captured=CUT if imported.is_cut else "",
    )
    id = ids.format_id("ex", raw_id(format, imported))
    span_ns = (ended_us - started_us) * 1000
    return SpooledExchange(id, begin, _NO_PLACE, started_us, 0, span_ns, head, [imported.response], end)
