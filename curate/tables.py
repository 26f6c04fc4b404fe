"""Rows of this package: examples, splits, reviews and dataset versions. They stay at home."""

from __future__ import annotations

from sqlalchemy import BigInteger, UniqueConstraint
from sqlmodel import Field, SQLModel


class DatasetVersionRow(SQLModel, table=True):
    """A frozen dataset; fields as in `curate.datasets.DatasetVersion`, the manifest as JSON."""

    __tablename__ = "dataset_versions"
    __table_args__ = (UniqueConstraint("task", "number"),)
    id: str = Field(primary_key=True)
    task: str
    number: int = Field(sa_type=BigInteger)
    hash: str
    train: int = Field(sa_type=BigInteger)
    val: int = Field(sa_type=BigInteger)
    test: int = Field(sa_type=BigInteger)
    folder: str
    manifest: str
    created_us: int = Field(sa_type=BigInteger)


class ExampleRow(SQLModel, table=True):
    """An example as Review shows it: `split` is empty and `reason` says why when the latest build dropped it.

    `messages` is JSON, a list of role and content; the lowest `priority` is reviewed first.
    """

    __tablename__ = "examples"
    id: str = Field(primary_key=True)
    task: str
    exchange_id: str = Field(unique=True)
    input_key: str
    split: str
    reason: str
    messages: str
    target: str
    priority: int = Field(sa_type=BigInteger)
    note: str
    created_us: int = Field(sa_type=BigInteger)


class SplitRow(SQLModel, table=True):
    """Where an input belongs, once and for all: train, val or test, by the hash of its content."""

    __tablename__ = "splits"
    task: str = Field(primary_key=True)
    input_key: str = Field(primary_key=True)
    split: str
    first_version: int = Field(sa_type=BigInteger)


class ReviewRow(SQLModel, table=True):
    """One person's recorded decision on an example; append-only, `number` gives the order."""

    __tablename__ = "reviews"
    number: int | None = Field(default=None, primary_key=True, sa_type=BigInteger)
    id: str
    task: str
    exchange_id: str
    verdict: str
    target: str
    reviewer: str
    note: str
    created_us: int = Field(sa_type=BigInteger)
