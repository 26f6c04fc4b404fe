"""Makes releases: an adapter passes its gate, gets a number, is loaded, warmed up and checked against the trainer.

Reading them is `serve.release_store`'s; its names are given here too, so that callers need one module.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict

from capture.database import Database
from capture.errors import EngineError, GateError, NotFoundError, PotstillError, UpstreamError
from capture.progress import Progress, tell_nobody
from capture.settings import Settings
from serve import gate as gates
from serve.adapter_check import refuse_unloadable
from serve.engine import EngineClient
from serve.gate import Gate
from serve.parity import Parity, check_parity, read_predictions
from serve.reconcile import load_adapter
from serve.release_store import (
    FAILED,
    PREPARING,
    READY,
    RETIRED,
    STATES,
    Release,
    add_release,
    get_release,
    list_releases,
    settle_release,
)
from serve.settings import EngineSettings
from train.adapters import Adapter, get_adapter, latest_adapter
from train.runs import evaluations, get_run

__all__ = [
    "FAILED", "PREPARING", "READY", "RETIRED", "STATES", "Gate", "Release", "create_release", "get_release", "list_releases",
]  # fmt: skip

PARITY_PROMPTS = 200


def create_release(
    database: Database,
    settings: Settings,
    task: str,
    *,
    adapter: str | Adapter | None = None,
    gate: Gate,
    on_progress: Progress = tell_nobody,
) -> Release:
    """A release of `adapter` (an id; None is the task's newest) that is ready to get a share.

    `on_progress` hears (step, done, total) with steps gate, load, parity. GateError with every criterion when the adapter
    does not pass; then no release is made. A release that cannot be loaded, or whose answers differ from the trainer's, is
    kept in state failed and raised as GateError or EngineError: it never gets a share.
    """
    engine = settings.section("engine", EngineSettings)
    chosen = adapter if isinstance(adapter, Adapter) else _find_adapter(database, task, adapter)
    on_progress("gate", 0, 1)
    criteria = gates.judge(gate, evaluations(database, chosen.run_id))
    gates.refuse_failed(task, criteria)
    refuse_unloadable(chosen.folder, engine.max_lora_rank)
    run = get_run(database, chosen.run_id)
    predictions = read_predictions(run.folder / "predictions.jsonl", PARITY_PROMPTS)
    on_progress("gate", 1, 1)
    kept = gates.record(gate, criteria)
    with EngineClient(engine.address) as client:
        client.models()  # an engine that is down makes no release
        release = add_release(database, task, chosen.id, kept)
        try:
            on_progress("load", 0, 1)
            load_adapter(client, engine, release.engine_model, chosen)
            on_progress("load", 1, 1)
            parity = check_parity(
                client,
                release.engine_model,
                predictions,
                max_tokens=run.recipe.max_new_tokens,
                on_progress=lambda done, total: on_progress("parity", done, total),
            )
            return _settle(database, release, gate, kept, parity)
        except BaseException as error:
            _give_up(database, client, release, kept, error)
            raise


def _find_adapter(database: Database, task: str, adapter_id: str | None) -> Adapter:
    chosen = latest_adapter(database, task) if adapter_id is None else get_adapter(database, adapter_id)
    if chosen is None:
        raise NotFoundError(f"Task {task!r} has no adapter.", f"Run `potstill train {task}`.")
    if chosen.task != task:
        raise NotFoundError(
            f"Adapter {chosen.id} belongs to task {chosen.task!r}, not {task!r}.", f"Run `potstill release {chosen.task}`."
        )
    return chosen


def _settle(database: Database, release: Release, gate: Gate, kept: dict[str, object], parity: Parity) -> Release:
    kept = kept | {"differences": [asdict(one) for one in parity.differences]}
    if parity.share >= gate.minimum_parity:
        return settle_release(database, release, READY, kept, parity.n, parity.same)
    failure = (
        f"{parity.same} of {parity.n} answers of the engine are identical to the trainer's, wanted {gate.minimum_parity:.1%}"
    )
    settle_release(database, release, FAILED, kept | {"failure": failure}, parity.n, parity.same)
    first = parity.differences[0]
    raise GateError(
        f"Release {release.name} failed its parity check: {failure}. First difference, {first.id}: "
        f"trainer {first.trainer[:120]!r}, engine {first.engine[:120]!r}.",
        "Check that trainer and engine use the same base model, dtype and chat template.",
    )


def _give_up(database: Database, client: EngineClient, release: Release, kept: dict[str, object], error: BaseException) -> None:
    """Marks `release` failed, unless that is done, and takes it out of the engine, unless it never got in."""
    if get_release(database, release.task, release.id).state == PREPARING:
        reason = error.what if isinstance(error, PotstillError) else f"{type(error).__name__}: {error}"
        settle_release(database, release, FAILED, kept | {"failure": reason}, 0, 0)
    with suppress(EngineError, UpstreamError):
        client.unload(release.engine_model)
