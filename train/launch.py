"""Starts the process of a run, watches it, cancels it, and goes on with one that ended early."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from capture import clock
from capture.errors import TrainingError
from train import runs
from train.runs import CANCELLED, CANCELLING, DONE, FAILED, QUEUED, RUNNING, Run
from train.settings import TrainSettings

if TYPE_CHECKING:
    from capture.database import Database
    from capture.settings import Settings

OUTPUT = "output.txt"
_POLL_S = 0.25
_LEAVE_S = 10.0
_SILENCE_US = 60_000_000
"""A run without a sign of life for this long is taken for dead by whoever did not start it."""


def launch(settings: Settings, run: Run) -> subprocess.Popen[bytes]:
    """Starts the worker of a queued run in a session of its own; what it prints goes to output.txt of the run's folder."""
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_TELEMETRY": "1"}
    threads = settings.section("train", TrainSettings).threads
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    if Path(run.base_model).is_dir():
        environment["HF_HUB_OFFLINE"] = "1"
    command = [sys.executable, "-m", "train.worker", run.id]
    if settings.path is not None:
        command += ["--config", str(settings.path)]
    (run.folder / OUTPUT).touch(mode=0o600)  # it may quote what customers wrote
    with (run.folder / OUTPUT).open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=settings.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def watch(database: Database, run_id: str, process: subprocess.Popen[bytes] | None = None) -> Iterator[Run]:
    """The run whenever something of it changed, until it is done; TrainingError with the reason when it failed or was cancelled.

    With its `process` a worker that died is noticed at once and the run marked failed; without, after a minute of silence.
    """
    shown: Run | None = None
    while True:
        has_exited = process is not None and process.poll() is not None
        run = runs.get_run(database, run_id)
        if has_exited and not run.is_ended and (process is None or run.pid in (0, process.pid)):
            run = _bury(database, run, f"Its process ended with code {process.returncode if process else 0} without a word.")
        elif process is None and run.state == RUNNING and clock.now_us() - run.heartbeat_us > _SILENCE_US:
            run = _bury(database, run, "Its process gave no sign of life for a minute.")
        if run != shown:
            shown = run
            yield run
        if run.is_ended and process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):  # its last word is in the store; it only has to leave
                process.wait(_LEAVE_S)
        if run.state == DONE:
            return
        if run.state in (FAILED, CANCELLED):
            raise TrainingError(f"Run {run.number} {run.state}: {run.error_message}", f"See {run.folder / OUTPUT}.")
        time.sleep(_POLL_S)


def cancel(database: Database, run: Run) -> Run:
    """Ends a run: at once when nobody works on it, else when its worker next asks. An ended run stays as it is."""
    from sqlalchemy import text

    is_silent = clock.now_us() - run.heartbeat_us > _SILENCE_US
    with database.write() as connection:
        if run.state == QUEUED or is_silent:
            runs.end_run(connection, run.id, CANCELLED, "Cancelled.")
        else:
            connection.execute(
                text("UPDATE runs SET stage = :stage WHERE id = :id AND state = 'running'"), {"stage": CANCELLING, "id": run.id}
            )
    return runs.get_run(database, run.id)


def resume(settings: Settings, database: Database, run: Run) -> subprocess.Popen[bytes]:
    """Goes on with a failed or cancelled run from its last checkpoint; TrainingError when there is nothing to go on with."""
    runs.requeue(database, run.id)
    return launch(settings, runs.get_run(database, run.id))


def _bury(database: Database, run: Run, reason: str) -> Run:
    with database.write() as connection:
        runs.end_run(connection, run.id, FAILED, f"{reason} Resume it with `potstill train {run.task} --resume {run.number}`.")
    return runs.get_run(database, run.id)
