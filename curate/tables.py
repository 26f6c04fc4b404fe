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

    `messages`, `tools` and `answer` (the target with its calls) are JSON in OpenAI's form; the lowest `priority` is reviewed
    first. Examples with the same `look_alike` may be decided together; `stands_for` counts the exchanges behind one.
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
    tools: str
    answer: str
    target_source: str
    look_alike: str
    stands_for: int = Field(sa_type=BigInteger)


class SplitRow(SQLModel, table=True):
    """Where an input belongs, once and for all: train, val, test or golden, by the hash of its content."""

    __tablename__ = "splits"
    task: str = Field(primary_key=True)
    input_key: str = Field(primary_key=True)
    split: str
    first_version: int = Field(sa_type=BigInteger)


class ReviewRow(SQLModel, table=True):
    """One person's recorded decision on an example; append-only, `number` gives the order.

    `answer_hash` is that of the answer that an accept was given on, '' for other verdicts.
    """

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
    answer_hash: str


class TaskNameRow(SQLModel, table=True):
    """Untagged traffic with this fingerprint belongs to a task."""

    __tablename__ = "task_names"
    fingerprint: str = Field(primary_key=True)
    task: str
    who: str
    created_us: int = Field(sa_type=BigInteger)


class TaskAliasRow(SQLModel, table=True):
    """Another name of a task: what is tagged with `alias` counts as `task`."""

    __tablename__ = "task_aliases"
    alias: str = Field(primary_key=True)
    task: str
    who: str
    created_us: int = Field(sa_type=BigInteger)


class TaskTemplateRow(SQLModel, table=True):
    """A version of a task's prompt template; `template` is JSON."""

    __tablename__ = "task_templates"
    task: str = Field(primary_key=True)
    version: int = Field(primary_key=True, sa_type=BigInteger)
    fingerprint: str
    template: str
    distinct_inputs: int = Field(sa_type=BigInteger)
    first_us: int = Field(sa_type=BigInteger)
    created_us: int = Field(sa_type=BigInteger)


class GoldenRow(SQLModel, table=True):
    """An input that a person pinned for evaluation, with the answer that they stand for; never trained on."""

    __tablename__ = "golden"
    task: str = Field(primary_key=True)
    input_key: str = Field(primary_key=True)
    exchange_id: str
    messages: str
    tools: str
    answer: str
    grade: str
    who: str
    note: str
    created_us: int = Field(sa_type=BigInteger)


class RelabelRow(SQLModel, table=True):
    """Another answer to the input of an exchange; `score` is a judge's. The one that `is_chosen` becomes the target."""

    __tablename__ = "relabels"
    id: str = Field(primary_key=True)
    task: str
    exchange_id: str
    answer_exchange_id: str
    model: str
    answer: str
    score: float | None
    judge: str
    note: str
    is_chosen: int = Field(sa_type=BigInteger)
    created_us: int = Field(sa_type=BigInteger)


class AuditRow(SQLModel, table=True):
    """A random sample of a dataset version; `exchange_ids` is a JSON list in the order of drawing."""

    __tablename__ = "audits"
    id: str = Field(primary_key=True)
    task: str
    number: int = Field(sa_type=BigInteger)
    population: int = Field(sa_type=BigInteger)
    exchange_ids: str
    seed: int = Field(sa_type=BigInteger)
    who: str
    created_us: int = Field(sa_type=BigInteger)


class AuditVerdictRow(SQLModel, table=True):
    """What a person found of one example of an audit; append-only, the newest of a person counts."""

    __tablename__ = "audit_verdicts"
    number: int | None = Field(default=None, primary_key=True, sa_type=BigInteger)
    audit_id: str
    exchange_id: str
    verdict: str
    who: str
    note: str
    created_us: int = Field(sa_type=BigInteger)
