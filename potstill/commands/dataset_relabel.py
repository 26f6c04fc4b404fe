"""`potstill dataset relabel`: another teacher answers a task's inputs again through the relay, a judge chooses."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from capture.database import open_database
from capture.errors import SettingsError
from capture.settings import Settings
from potstill.commands import add_command, whole_number, zero_or_more
from potstill.output import ExitCode, Output, counted

_ONLY = ("filter", "train", "review", "bad-answers")
_SHOWN = 5


def add_commands(verbs: Any) -> None:
    """Adds `relabel` to the verbs of `dataset`."""
    relabel = add_command(
        verbs,
        "relabel",
        _relabel,
        help="let another teacher answer a task's inputs again, n times each, and a judge choose; the original is kept",
        examples=(
            "  potstill dataset relabel triage --model gpt-4.1 --dry-run\n"
            "  potstill dataset relabel triage --model claude-sonnet-4-5 --n 4 --judge gpt-4.1 --only review --yes\n"
            "  potstill dataset relabel triage --model gpt-4.1 --only bad-answers --yes\n"
            "  potstill dataset relabel triage --model gpt-4.1 --limit 50 --json --yes     again for the next 50"
        ),
    )
    relabel.add_argument("task", help="task whose inputs are asked again (see: potstill tasks)")
    relabel.add_argument("--model", required=True, help="model that answers; the relay must know where it is")
    relabel.add_argument("--n", type=whole_number, default=1, help="answers to each input (default: 1)")
    relabel.add_argument(
        "--judge", default="", metavar="MODEL", help="model that scores all answers; without one the most frequent is chosen"
    )
    relabel.add_argument(
        "--only",
        choices=_ONLY,
        default="filter",
        help="all that the filter selects (default), the train split of the latest version, what the review queue points at, or "
        "what was answered badly: failed, cut off, refused, invalid, low score",
    )
    relabel.add_argument("--filter", default="", help="only exchanges that match this filter")
    relabel.add_argument("--limit", type=zero_or_more, default=0, help="inputs at most, the newest first (default: all)")
    relabel.add_argument("--include-eval", action="store_true", help="val, test and golden inputs too: their targets may change")
    relabel.add_argument(
        "--protocol", choices=("openai", "anthropic"), default="", help="to ask in, where the name does not tell"
    )
    relabel.add_argument("--url", default="", help="address of the relay (default: the one of [relay])")
    relabel.add_argument("--threads", type=whole_number, default=4, help="questions at the same time (default: 4)")
    relabel.add_argument(
        "--timeout", type=float, default=60.0, metavar="S", help="seconds that one answer may take (default: 60)"
    )
    relabel.add_argument("--dry-run", action="store_true", help="say what would be asked and what it may cost, and ask nobody")
    relabel.add_argument("--yes", action="store_true", help="do not ask before money is spent")


def _relabel(arguments: argparse.Namespace, settings: Settings, output: Output) -> int:
    import dataclasses

    from capture.pricing import PriceSettings, load_price_table
    from curate.relabelling.relabel import RelabelOptions, make_plan
    from curate.relabelling.relabel_run import run
    from curate.settings import CurateSettings
    from curate.tasks.aliases import canonical

    curate = settings.section("curate", CurateSettings)
    curate = dataclasses.replace(curate, filter=f"{curate.filter} {arguments.filter}".strip())
    prices = load_price_table(settings.section("prices", PriceSettings))
    options = RelabelOptions(
        arguments.model, arguments.n, arguments.judge, arguments.only, arguments.limit, arguments.url or relay_url(settings),
        arguments.protocol, arguments.include_eval, arguments.threads, arguments.timeout,
    )  # fmt: skip
    database = open_database(settings.database_url)
    try:
        with output.stages() as show:
            plan = make_plan(database, canonical(database, arguments.task), curate, options, prices, show)
        told = _plain_plan(plan)
        _tell_plan(told, output)
        if arguments.dry_run or not plan.inputs:
            if output.as_json:
                output.json({**told, "is_dry_run": True} if arguments.dry_run else told)
            return ExitCode.OK
        if not arguments.yes:
            _confirm(output)
        with output.stages() as show:
            report = run(database, plan, curate, prices, show)
    finally:
        database.close()
    if output.as_json:
        output.json({**told, "report": report})
    else:
        _tell(report, output)
    return ExitCode.FAILED if report.stopped else ExitCode.OK


def _plain_plan(plan: Any) -> dict[str, Any]:
    return {
        "task": plan.task,
        "model": plan.options.model,
        "judge": plan.options.judge,
        "inputs": len(plan.inputs),
        "skipped": plan.skipped,
        "questions": plan.questions,
        "judgements": plan.judgements,
        "cost_estimate_microusd": plan.cost_microusd,
        "cost_basis": plan.cost_basis,
        "terms": plan.terms,
    }


def relay_url(settings: Settings) -> str:
    """Where the relay of these settings listens."""
    from proxy.settings import RelaySettings

    relay = settings.section("relay", RelaySettings)
    return f"http://{relay.host}:{relay.port}"


def _confirm(output: Output) -> None:
    if output.as_json or not sys.stdin.isatty():
        raise SettingsError("Nobody is here to agree to what it costs.", "Give --yes, or --dry-run to see the estimate alone.")
    output.say("Go on? [y/N]")
    if sys.stdin.readline().strip().casefold() not in ("y", "yes"):
        raise SettingsError("Nothing was asked.", "Run it again and agree, or give --yes.")


def _tell_plan(told: dict[str, Any], output: Output) -> None:
    output.heading(f"{told['task']}: {told['model']} answers {counted(told['inputs'], 'input')} again")
    if not told["inputs"]:
        left_out = ", ".join(f"{reason.replace('_', ' ')} {count}" for reason, count in told["skipped"].items())
        output.say(f"Nothing to ask: no input is left of what --only and --filter choose (left out: {left_out or 'none'}).")
        return
    for reason, count in told["skipped"].items():
        output.say(f"  left out, {reason.replace('_', ' ')}: {count}")
    judged = f", at most {counted(2 * told['judgements'], 'question')} to {told['judge']}" if told["judge"] else ""
    output.say(f"{counted(told['questions'], 'question')} to {told['model']}{judged}")
    output.say(f"estimated cost: {_money(told['cost_estimate_microusd'])} (by {told['cost_basis']})")
    output.say(f"terms of its answers: {told['terms']}")
    if told["judge"] == told["model"]:
        output.warn(f"{told['judge']} judges its own answers, which models tend to prefer.", "Name another --judge.")


def _tell(report: Any, output: Output) -> None:
    output.say(f"{report.answered} of {counted(report.asked, 'question')} answered, {report.failed} failed")
    for reason, count in report.unfit.items():
        output.say(f"  thrown away, {reason.replace('_', ' ')}: {count}")
    if report.judge:
        output.say(
            f"{report.judged} judged, {report.judgements_failed} judgements failed, {report.same} needed none (all said the same)"
        )
    if report.first_place is not None:
        output.say(f"the judge preferred the first place by {report.first_place:+.2f} of 10 points; both orders count alike")
    output.say(f"{counted(report.relabelled, 'input')} with another target now, {report.kept} with the original")
    output.say(f"cost: {_money(report.cost_microusd)}")
    for problem in report.problems[:_SHOWN]:
        output.say(f"  {problem.exchange_id}: {problem.what}")
    if report.stopped:
        output.warn(f"Not everything was asked: {report.stopped}", "Run it again: what is stored is not asked again.")
    output.say(f"Next: potstill dataset build {report.task}")


def _money(microusd: int | None) -> str:
    return "unknown, a price is missing" if microusd is None else f"${microusd / 1_000_000:.4f}"
