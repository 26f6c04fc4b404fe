"""Run: one execution of a recipe on a dataset version, with its state, curves and evaluations in the store.

    queued -> running -> done | failed | cancelled        failed and cancelled may be resumed: back to queued

Only `claim_run` makes a run running, and only one process wins it. Times are UTC microseconds, 0 for "not yet".
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Row, text

from capture import clock
from capture.errors import NotFoundError, TrainingError
from capture.ids import new_id
from train.readiness import check_ready
from train.recipe import Recipe, build_recipe, settings_of, values

if TYPE_CHECKING:
    from capture.database import Database
    from curate.datasets import DatasetVersion

QUEUED, RUNNING, DONE, FAILED, CANCELLED = "queued", "running", "done", "failed", "cancelled"
STATES = (QUEUED, RUNNING, DONE, FAILED, CANCELLED)
ENDED = (DONE, FAILED, CANCELLED)
LOADING, TRAINING, EVALUATING, SAVING = "loading", "training", "evaluating", "saving"
CANCELLING = "cancelling"
"""The stage by which a running worker learns that it should stop."""

BASE, STUDENT, TEACHER, CHEAP_BASELINE = "base", "student", "teacher", "cheap_baseline"
VARIANTS = (BASE, STUDENT, TEACHER, CHEAP_BASELINE)

_COLUMNS = (
    "id, number, task, dataset_version_id, recipe_name, recipe_hash, recipe, base_model, state, stage, step, total_steps, "
    "error_message, pid, folder, heartbeat_us, created_us, ended_us"
)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a run is told beside its recipe; none of it changes what is learnt."""

    relay_url: str = ""
    """The relay for asking the teacher again; empty: relay_url of section [train]."""
    ask_teacher: bool = True
    """False leaves the teacher's evaluation without a value."""


@dataclass(frozen=True, slots=True)
class Run:
    """One execution of a recipe. `number` is what people say: run 7."""

    id: str
    number: int
    task: str
    dataset_version_id: str
    recipe_name: str
    recipe_hash: str
    recipe: Recipe
    options: RunOptions
    base_model: str
    state: str
    stage: str
    step: int
    total_steps: int
    error_message: str
    pid: int
    folder: Path
    heartbeat_us: int
    created_us: int
    ended_us: int

    @property
    def is_ended(self) -> bool:
        """True when nothing more happens unless somebody resumes it."""
        return self.state in ENDED


@dataclass(frozen=True, slots=True)
class RunMetric:
    """One point of a curve, such as loss or exact_match at a step."""

    step: int
    metric: str
    value: float
    created_us: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One variant over one split. `low` and `high` bound the value with 95 % confidence (Wilson).

    `value` None means that it could not be measured; `note` says why.
    """

    run_id: str
    variant: str
    split: str
    metric: str
    n: int
    value: float | None
    low: float | None
    high: float | None
    note: str = ""


def create_run(
    database: Database,
    version: DatasetVersion,
    recipe: Recipe,
    base_model: str,
    data_folder: Path,
    options: RunOptions | None = None,
) -> Run:
    """A queued run with its folder; `base_model` empty takes the recipe's.

    Refuses before anything is loaded: NotEnoughError, GateError (see `train.readiness`), and TrainingError without a base
    model. A base model that is a local folder is kept as an absolute path.
    """
    from train.tables import RunRow

    check_ready(version, recipe)
    chosen = base_model or recipe.base_model
    if not chosen:
        raise TrainingError(f"Recipe {recipe.name} names no base model.", "Give one with --base-model.")
    if Path(chosen).expanduser().is_dir():
        chosen = str(Path(chosen).expanduser().resolve())
    run_id, now = new_id("run"), clock.now_us()
    folder = (data_folder / "runs" / run_id).resolve()
    folder.mkdir(mode=0o700, parents=True)
    options = options or RunOptions()
    document = {"settings": values(recipe), "sources": dict(recipe.sources), "options": dataclasses.asdict(options)}
    with database.write() as connection:
        if not database.is_sqlite:
            connection.execute(text("LOCK TABLE runs IN SHARE ROW EXCLUSIVE MODE"))
        number = connection.execute(text("SELECT COALESCE(MAX(number), 0) + 1 FROM runs")).scalar_one()
        row = RunRow(
            id=run_id, number=number, task=version.task, dataset_version_id=version.id, recipe_name=recipe.name,
            recipe_hash=recipe.hash, recipe=json.dumps(document), base_model=chosen, state=QUEUED, stage="", step=0,
            total_steps=0, error_message="", pid=0, folder=str(folder), heartbeat_us=0, created_us=now, ended_us=0,
        )  # fmt: skip
        connection.execute(RunRow.__table__.insert(), row.model_dump())  # type: ignore[attr-defined]
    return get_run(database, run_id)


def get_run(database: Database, id_or_number: str | int) -> Run:
    """The run with that id (a unique beginning suffices) or number; NotFoundError otherwise."""
    wanted = str(id_or_number).removeprefix("#")
    with database.read() as connection:
        if wanted.isdecimal():
            rows = connection.execute(text(f"SELECT {_COLUMNS} FROM runs WHERE number = :n"), {"n": int(wanted)}).all()  # noqa: S608
        else:
            query = text(f"SELECT {_COLUMNS} FROM runs WHERE substr(id, 1, :size) = :id ORDER BY id LIMIT 2")  # noqa: S608
            rows = connection.execute(query, {"id": wanted, "size": len(wanted)}).all() if wanted else []
    if len(rows) != 1:
        what = "is ambiguous" if rows else "does not exist"
        raise NotFoundError(f"Run {str(id_or_number)!r} {what}.", "See `potstill runs list`.")
    return _run(rows[0])


def list_runs(database: Database, task: str = "") -> list[Run]:
    """Every run, newest first; of one task when `task` is given."""
    with database.read() as connection:
        query = text(f"SELECT {_COLUMNS} FROM runs WHERE :task = '' OR task = :task ORDER BY number DESC")  # noqa: S608
        return [_run(row) for row in connection.execute(query, {"task": task})]


def metrics(database: Database, run_id: str) -> list[RunMetric]:
    """The curves of a run, by step and then name."""
    query = text("SELECT step, metric, value, created_us FROM run_metrics WHERE run_id = :id ORDER BY step, metric")
    with database.read() as connection:
        return [RunMetric(*row) for row in connection.execute(query, {"id": run_id})]


def evaluations(database: Database, run_id: str) -> list[Evaluation]:
    """The evaluations of a finished run, in the order base, student, teacher, cheap baseline."""
    query = text("SELECT run_id, variant, split, metric, n, value, low, high, note FROM evaluations WHERE run_id = :id")
    with database.read() as connection:
        found = [Evaluation(*row) for row in connection.execute(query, {"id": run_id})]
    return sorted(found, key=lambda evaluation: (VARIANTS.index(evaluation.variant), evaluation.split, evaluation.metric))


def claim_run(database: Database, run_id: str, pid: int) -> Run:
    """Takes a queued run for this process; TrainingError when another has it or it has ended."""
    with database.write() as connection:
        taken = connection.execute(
            text(
                "UPDATE runs SET state = 'running', stage = :stage, pid = :pid, heartbeat_us = :now, ended_us = 0, "
                "error_message = '' WHERE id = :id AND state = 'queued'"
            ),
            {"stage": LOADING, "pid": pid, "now": clock.now_us(), "id": run_id},
        ).rowcount
    run = get_run(database, run_id)
    if not taken:
        raise TrainingError(f"Run {run.number} is {run.state}, not queued.", "Resume it, or start another run.")
    return run


def requeue(database: Database, run_id: str) -> None:
    """Makes an ended run that is not done claimable again; TrainingError when it is not ended or done."""
    with database.write() as connection:
        changed = connection.execute(
            text("UPDATE runs SET state = 'queued', stage = '', pid = 0 WHERE id = :id AND state IN ('failed', 'cancelled')"),
            {"id": run_id},
        ).rowcount
    if not changed:
        run = get_run(database, run_id)
        raise TrainingError(
            f"Run {run.number} is {run.state}: only a failed or cancelled run can be resumed.", "Start another run."
        )


def set_stage(database: Database, run_id: str, stage: str) -> None:
    """Says what the worker does now; a wish to cancel is never overwritten."""
    with database.write() as connection:
        connection.execute(
            text("UPDATE runs SET stage = :stage, heartbeat_us = :now WHERE id = :id AND stage <> 'cancelling'"),
            {"stage": stage, "now": clock.now_us(), "id": run_id},
        )


def beat(database: Database, run_id: str) -> bool:
    """Records a sign of life; True when the run shall stop: somebody wants it cancelled, or it was given up for dead."""
    with database.write() as connection:
        connection.execute(
            text("UPDATE runs SET heartbeat_us = :now WHERE id = :id AND state = 'running'"),
            {"now": clock.now_us(), "id": run_id},
        )
        found = connection.execute(text("SELECT state, stage FROM runs WHERE id = :id"), {"id": run_id}).one()
    return bool(found.state != RUNNING or found.stage == CANCELLING)


def record_progress(database: Database, run_id: str, step: int, total_steps: int, points: Mapping[str, float]) -> None:
    """Step, total and points of the curves at that step; a step that is done again after a resume replaces its points."""
    now = clock.now_us()
    with database.write() as connection:
        connection.execute(
            text("UPDATE runs SET step = :step, total_steps = :total, heartbeat_us = :now WHERE id = :id"),
            {"step": step, "total": total_steps, "now": now, "id": run_id},
        )
        if points:
            connection.execute(
                text(
                    "INSERT INTO run_metrics (run_id, step, metric, value, created_us) "
                    "VALUES (:id, :step, :metric, :value, :now) "
                    "ON CONFLICT (run_id, step, metric) DO UPDATE SET value = excluded.value, created_us = excluded.created_us"
                ),
                [{"id": run_id, "step": step, "metric": name, "value": value, "now": now} for name, value in points.items()],
            )


def record_evaluations(connection: Connection, found: Iterable[Evaluation]) -> None:
    """Adds evaluations inside the caller's transaction."""
    from train.tables import EvaluationRow

    for evaluation in found:
        row = EvaluationRow(id=new_id("ev"), created_us=clock.now_us(), **dataclasses.asdict(evaluation))
        connection.execute(EvaluationRow.__table__.insert(), row.model_dump())  # type: ignore[attr-defined]


def end_run(connection: Connection, run_id: str, state: str, error_message: str = "") -> bool:
    """Ends a run that has not ended yet; False when it had. A done run has stage done, others keep the stage they reached."""
    ended = connection.execute(
        text(
            "UPDATE runs SET state = :state, error_message = :error, ended_us = :now, "
            "stage = CASE WHEN :state = 'done' THEN 'done' ELSE stage END WHERE id = :id AND state IN ('queued', 'running')"
        ),
        {"state": state, "error": error_message, "now": clock.now_us(), "id": run_id},
    )
    return ended.rowcount > 0


def _run(row: Row[Any]) -> Run:
    table = dict(row._mapping)
    document = json.loads(table.pop("recipe"))
    recipe = build_recipe(document["settings"], {}, f"run {row.number}")
    recipe = dataclasses.replace(
        recipe, sources=tuple((item.name, document["sources"].get(item.name, "default")) for item in settings_of(recipe))
    )
    table["folder"] = Path(table["folder"])
    return Run(**table, recipe=recipe, options=RunOptions(**document["options"]))
