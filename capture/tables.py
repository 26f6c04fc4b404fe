"""Rows of this package: exchanges with their pieces, spool positions, gaps, feedback, bookkeeping. They stay at home."""

from __future__ import annotations

from sqlalchemy import BigInteger, LargeBinary
from sqlmodel import Field, SQLModel


class PieceRow(SQLModel, table=True):
    """A part of bodies, such as a message, kept once per content hash (BLAKE2b-160), compressed with zstd."""

    __tablename__ = "pieces"
    number: int | None = Field(default=None, primary_key=True)
    hash: bytes = Field(sa_type=LargeBinary)
    size: int = Field(sa_type=BigInteger)
    zstd: bytes = Field(sa_type=LargeBinary)


class PieceUseRow(SQLModel, table=True):
    """That a body of an exchange holds a piece; both by number."""

    __tablename__ = "piece_uses"
    piece: int = Field(primary_key=True, sa_type=BigInteger)
    exchange: int = Field(primary_key=True, sa_type=BigInteger)


class ContentRow(SQLModel, table=True):
    """What an exchange carried besides its pieces: headers, the rest of both bodies, hashes; see `capture.content`."""

    __tablename__ = "contents"
    number: int = Field(primary_key=True, sa_type=BigInteger)
    zstd: bytes = Field(sa_type=LargeBinary)


class ExchangeRow(SQLModel, table=True):
    """One exchange; fields as in `capture.exchange.Exchange`, with JSON for tags."""

    __tablename__ = "exchanges"
    number: int | None = Field(default=None, primary_key=True)
    id: str
    started_us: int = Field(sa_type=BigInteger)
    ended_us: int = Field(sa_type=BigInteger)
    method: str
    path: str
    query: str
    protocol: str
    purpose: str
    task: str
    unit: str
    unit_source: str
    user_name: str
    session_name: str
    environment: str
    tags: str
    model_asked: str
    model_served: str
    upstream: str
    variant: str
    release_id: str
    flag_revision: int = Field(sa_type=BigInteger)
    fallback_reason: str
    is_stream: int = Field(sa_type=BigInteger)
    status: int = Field(sa_type=BigInteger)
    state: str
    error_kind: str
    error_message: str
    finish_reason: str
    latency_us: int | None = Field(sa_type=BigInteger)
    first_byte_us: int | None = Field(sa_type=BigInteger)
    overhead_us: int | None = Field(sa_type=BigInteger)
    tokens_in: int | None = Field(sa_type=BigInteger)
    tokens_out: int | None = Field(sa_type=BigInteger)
    tokens_cached: int = Field(sa_type=BigInteger)
    tokens_cache_written: int = Field(sa_type=BigInteger)
    tokens_reasoning: int = Field(sa_type=BigInteger)
    usage_source: str
    cost_microusd: int | None = Field(sa_type=BigInteger)
    input_hash: str
    output_text: str
    content: str
    body_bytes: int = Field(sa_type=BigInteger)
    redactions: int = Field(sa_type=BigInteger)
    key_id: str
    trace_id: str
    saved_microusd: int = Field(sa_type=BigInteger)


class SpendRow(SQLModel, table=True):
    """What the exchanges that a key made for a task on a day (since 1970, UTC) came to; '' stands for no key, no task."""

    __tablename__ = "spend"
    day: int = Field(primary_key=True, sa_type=BigInteger)
    key_id: str = Field(primary_key=True)
    task: str = Field(primary_key=True)
    exchanges: int = Field(sa_type=BigInteger)
    unpriced: int = Field(sa_type=BigInteger)
    tokens: int = Field(sa_type=BigInteger)
    cost_microusd: int = Field(sa_type=BigInteger)
    saved_microusd: int = Field(sa_type=BigInteger)


class SpoolRow(SQLModel, table=True):
    """How far the store writer has durably read a spool: everything before is in the store."""

    __tablename__ = "spools"
    spool_id: str = Field(primary_key=True)
    segment: int = Field(sa_type=BigInteger)
    position: int = Field(sa_type=BigInteger)
    updated_us: int = Field(sa_type=BigInteger)


class GapRow(SQLModel, table=True):
    """A stretch of time in which exchanges were lost, how many and why."""

    __tablename__ = "gaps"
    id: str = Field(primary_key=True)
    spool_id: str
    from_us: int = Field(sa_type=BigInteger)
    to_us: int = Field(sa_type=BigInteger)
    lost: int = Field(sa_type=BigInteger)
    reason: str


class DeadLetterRow(SQLModel, table=True):
    """An exchange that the store refused, with its raw spool records, so that nothing is lost."""

    __tablename__ = "dead_letters"
    exchange_id: str = Field(primary_key=True)
    reason: str
    record: bytes = Field(sa_type=LargeBinary)
    created_us: int = Field(sa_type=BigInteger)


class FeedbackRow(SQLModel, table=True):
    """What somebody thought of an exchange, or of a session; see `capture.feedback`."""

    __tablename__ = "feedback"
    number: int | None = Field(default=None, primary_key=True)
    id: str
    exchange_id: str
    session_name: str
    name: str
    kind: str
    value: float | None
    text: str
    who: str
    source: str
    tags: str
    created_us: int = Field(sa_type=BigInteger)


class PseudonymRow(SQLModel, table=True):
    """A personal datum under the token that stands for it in an exchange, readable only with the key."""

    __tablename__ = "pseudonyms"
    token: str = Field(primary_key=True)
    exchange_id: str = Field(primary_key=True)
    sealed: bytes = Field(sa_type=LargeBinary)


class ExportRow(SQLModel, table=True):
    """A file that exchanges were exported to, so that an erasure can name it."""

    __tablename__ = "exports"
    path: str = Field(primary_key=True)
    format: str
    filter: str
    created_us: int = Field(sa_type=BigInteger)


class ErasureRow(SQLModel, table=True):
    """The receipt of an erasure, as JSON."""

    __tablename__ = "erasures"
    id: str = Field(primary_key=True)
    receipt: str
    created_us: int = Field(sa_type=BigInteger)


class MetaRow(SQLModel, table=True):
    """One value of the store's own bookkeeping."""

    __tablename__ = "meta"
    name: str = Field(primary_key=True)
    value: str
