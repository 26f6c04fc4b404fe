"""What a run tells while it works: signs of life, its curves, and when it is time to stop."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from capture.errors import StoreError
from train import runs

if TYPE_CHECKING:
    from capture.database import Database

Report = Callable[[int, int, Mapping[str, float]], None]
"""Takes step, total steps and points of the curves at that step."""

_LOGGED = ("loss", "grad_norm", "learning_rate", "mean_token_accuracy", "entropy", "num_tokens")


@dataclass(frozen=True, slots=True)
class StopRule:
    """The best exact match so far, and how often in a row it was not beaten; `patience` 0 never stops."""

    patience: int
    best_step: int = 0
    best_value: float = -1.0
    misses: int = 0

    def seen(self, step: int, value: float) -> StopRule:
        """The rule after one more evaluation. An equal value keeps the later step, and still counts as a miss."""
        if value > self.best_value:
            return replace(self, best_step=step, best_value=value, misses=0)
        is_equal = value == self.best_value
        return replace(self, best_step=step if is_equal else self.best_step, misses=self.misses + 1)

    @property
    def should_stop(self) -> bool:
        """True when patience has run out."""
        return 0 < self.patience <= self.misses


class Heartbeat:
    """A thread that records a sign of life every `interval_s` and calls `on_cancel` once when the run shall be cancelled."""

    def __init__(self, database: Database, run_id: str, interval_s: float, on_cancel: Callable[[], None]) -> None:
        self._database, self._run_id, self._interval_s, self._on_cancel = database, run_id, interval_s, on_cancel
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self.missed = 0
        """Signs of life that the store did not take."""

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(self._interval_s):
            try:
                is_cancelled = runs.beat(self._database, self._run_id)
            except StoreError:
                self.missed += 1  # a busy store must not end the run; whoever watches sees the old heartbeat
                continue
            if is_cancelled:
                self._on_cancel()
                return


def make_callback(
    report: Report,
    *,
    evaluate: Callable[[Any], float],
    snapshot: Callable[[Any, int, float], None],
    every: int,
    rule: StopRule,
    rule_path: Path,
) -> Any:
    """A transformers TrainerCallback that reports every step, evaluates every `every` steps and at the end, and stops by `rule`.

    `evaluate(model)` gives the exact match on the val split, `snapshot(model, step, value)` keeps the best adapter. The state
    of the rule is written to `rule_path` at each evaluation, so that a resumed run goes on where it stood.
    """
    from transformers import TrainerCallback

    class Progress(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rule = rule
            self.started_s, self.first_step, self.reported_s = time.monotonic(), 0, 0.0

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.started_s, self.first_step = time.monotonic(), state.global_step
            report(state.global_step, state.max_steps, {})

        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> Any:
            step, now = state.global_step, time.monotonic()
            if step % every == 0 or step == state.max_steps:
                self._evaluate(model, step, state.max_steps)
            elif now - self.reported_s >= 0.5:
                self.reported_s = now
                report(step, state.max_steps, {})
            # At every step: a run that is resumed may have stopped by the rule before.
            control.should_training_stop = control.should_training_stop or self.rule.should_stop
            return control

        def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
            points = {name: float(value) for name, value in (logs or {}).items() if name in _LOGGED}
            done = state.global_step - self.first_step
            if points and done:
                points["seconds_left"] = (time.monotonic() - self.started_s) / done * (state.max_steps - state.global_step)
                report(state.global_step, state.max_steps, points)

        def _evaluate(self, model: Any, step: int, total_steps: int) -> None:
            value = evaluate(model)
            after = self.rule.seen(step, value)
            if after.best_step == step:
                snapshot(model, step, value)
            self.rule = after
            rule_path.write_text(
                json.dumps({"best_step": after.best_step, "best_value": after.best_value, "misses": after.misses}), "utf-8"
            )
            report(step, total_steps, {"exact_match": value})

    return Progress()


def read_rule(path: Path, patience: int) -> StopRule:
    """The rule that an interrupted run had reached, or a fresh one."""
    if not path.is_file():
        return StopRule(patience)
    return StopRule(patience, **json.loads(path.read_text("utf-8")))
