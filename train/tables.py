"""Rows of this package: runs with their curves and evaluations, and adapters. They stay at home."""

from __future__ import annotations

from sqlalchemy import BigInteger, Double
from sqlmodel import Field, SQLModel


class RunRow(SQLModel, table=True):
    """One execution of a recipe; `recipe` is JSON with its settings, their sources and the run's options."""

    __tablename__ = "runs"
    id: str = Field(primary_key=True)
    number: int = Field(sa_type=BigInteger)
    task: str
    dataset_version_id: str
    recipe_name: str
    recipe_hash: str
    recipe: str
    base_model: str
    state: str
    stage: str
    step: int = Field(sa_type=BigInteger)
    total_steps: int = Field(sa_type=BigInteger)
    error_message: str
    pid: int = Field(sa_type=BigInteger)
    folder: str
    heartbeat_us: int = Field(sa_type=BigInteger)
    created_us: int = Field(sa_type=BigInteger)
    ended_us: int = Field(sa_type=BigInteger)


class RunMetricRow(SQLModel, table=True):
    """One value of a run's curve."""

    __tablename__ = "run_metrics"
    run_id: str = Field(primary_key=True)
    step: int = Field(primary_key=True, sa_type=BigInteger)
    metric: str = Field(primary_key=True)
    value: float = Field(sa_type=Double)
    created_us: int = Field(sa_type=BigInteger)


class EvaluationRow(SQLModel, table=True):
    """One variant over one split; a value that could not be measured is NULL and `note` says why."""

    __tablename__ = "evaluations"
    id: str = Field(primary_key=True)
    run_id: str
    variant: str
    split: str
    metric: str
    n: int = Field(sa_type=BigInteger)
    value: float | None = Field(sa_type=Double)
    low: float | None = Field(sa_type=Double)
    high: float | None = Field(sa_type=Double)
    note: str
    created_us: int = Field(sa_type=BigInteger)


class AdapterRow(SQLModel, table=True):
    """An adapter whose folder is complete; `card` is the text of its card.md."""

    __tablename__ = "adapters"
    id: str = Field(primary_key=True)
    run_id: str
    task: str
    dataset_version_id: str
    recipe_hash: str
    base_model: str
    folder: str
    hash: str
    card: str
    created_us: int = Field(sa_type=BigInteger)
