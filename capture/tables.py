"""Rows of this package: exchanges with their bodies, spool positions, gaps and dead letters. They stay at home."""

from __future__ import annotations

from sqlalchemy import BigInteger, LargeBinary
from sqlmodel import Field, SQLModel


class BodyRow(SQLModel, table=True):
    """A request or response body, kept once per content hash, compressed with zstd."""

    __tablename__ = "bodies"
    hash: str = Field(primary_key=True)
    size: int = Field(sa_type=BigInteger)
    zstd: bytes = Field(sa_type=LargeBinary)


class ExchangeRow(SQLModel, table=True):
    """One exchange; fields as in `capture.exchange.Exchange`, with JSON for headers and tags."""

    __tablename__ = "exchanges"
    id: str = Field(primary_key=True)
    started_us: int = Field(sa_type=BigInteger)
    ended_us: int = Field(sa_type=BigInteger)
    method: str
    path: str
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
    usage_source: str
    cost_microusd: int | None = Field(sa_type=BigInteger)
    input_hash: str
    output_text: str
    request_headers: str
    response_headers: str
    request_body: str
    response_body: str
    request_sha256: str
    response_sha256: str
    redactions: int = Field(sa_type=BigInteger)


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
