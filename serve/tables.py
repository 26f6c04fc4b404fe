"""Rows of this package: releases and flag changes. They stay at home."""

from __future__ import annotations

from sqlalchemy import BigInteger, Integer
from sqlmodel import Field, SQLModel, UniqueConstraint


class ReleaseRow(SQLModel, table=True):
    """A numbered adapter, how it passed its gate, and whether it may serve."""

    __tablename__ = "releases"
    __table_args__ = (UniqueConstraint("task", "number"),)
    id: str = Field(primary_key=True)
    task: str
    number: int = Field(sa_type=BigInteger)
    adapter_id: str
    engine_model: str
    state: str
    gate: str
    parity_n: int = Field(sa_type=BigInteger)
    parity_same: int = Field(sa_type=BigInteger)
    created_us: int = Field(sa_type=BigInteger)


class FlagChangeRow(SQLModel, table=True):
    """One change of a flag; append-only, and the last one of a task is in force."""

    __tablename__ = "flag_changes"
    revision: int | None = Field(default=None, primary_key=True, sa_type=BigInteger().with_variant(Integer, "sqlite"))
    id: str
    task: str
    release_id: str
    engine_model: str
    share_bp: int = Field(sa_type=BigInteger)
    unit: str
    salt: str
    who: str
    why: str
    created_us: int = Field(sa_type=BigInteger)
