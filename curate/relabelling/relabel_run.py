"""Carries a relabel out: asks, cleans, lets the judge choose, and stores each input's answers as soon as they are there.

Broken off by Ctrl-C or a dead relay it keeps what was answered; the next run asks for the rest.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from capture import feed
from capture.assemble import OPENAI
from capture.database import Database
from capture.errors import NotFoundError
from capture.exchange import Exchange
from capture.messages import Message
from capture.pricing import PriceTable
from capture.progress import Progress
from curate.cleaning.clean import clean
from curate.doubting.sameness import answer_key
from curate.relabelling import judging
from curate.relabelling.asking import AskError, Question, Told, ask, parameters_of, protocol_of, request_of
from curate.relabelling.relabel import Input, Plan
from curate.relabelling.relabel_store import Relabel, Verdict, new_relabel, store
from curate.settings import CurateSettings

RELABEL, JUDGE = "relabel", "judge"
"""The purposes under which the relay captures the questions."""
_ENDED_WELL = frozenset(("", "stop", "end_turn", "stop_sequence", "tool_calls", "tool_use", "function_call"))
_MOST_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class Problem:
    """A question that gave nothing, and why."""

    exchange_id: str
    what: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a relabel did. `answered` of `asked` questions gave an answer that is stored; `failed` were refused or cut off on
    the way, `unfit` answers were thrown away, by reason (as in the bill of a dataset).

    Of `inputs`, `relabelled` have an answer of another teacher as their target now, `kept` the original. `same` of them were
    not judged because all said the same; `judgements_failed` were given no scores to believe. `first_place` is by how much the
    judge preferred whatever stood first, on average. The first problems are listed. `cost_microusd` counts what was asked now,
    None where a price is unknown; `stopped` says why not everything was asked.
    """

    task: str
    model: str
    judge: str
    inputs: int
    asked: int
    answered: int
    failed: int
    unfit: Mapping[str, int]
    relabelled: int
    kept: int
    same: int
    judged: int
    judgements_failed: int
    first_place: float | None
    cost_microusd: int | None
    problems: tuple[Problem, ...]
    stopped: str = ""


@dataclass(slots=True)
class _Work:
    """What came of one input."""

    rows: list[Relabel] = field(default_factory=list)
    verdict: Verdict | None = None
    told: list[tuple[str, Told]] = field(default_factory=list)
    asked: int = 0
    unfit: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    judge_problem: str = ""
    judgement: judging.Judgement | None = None
    is_same: bool = False
    final: AskError | None = None


def run(database: Database, plan: Plan, settings: CurateSettings, prices: PriceTable, on_progress: Progress) -> Report:
    """Asks what `plan` says. AskError when the first input shows that nobody will answer (no relay, no key, no such model)."""
    works: list[tuple[Input, _Work]] = []
    stop = threading.Event()
    limits = httpx.Limits(max_connections=plan.options.threads)
    with httpx.Client(timeout=plan.options.timeout_s, limits=limits) as client:

        def work(each: Input) -> _Work:
            return _work(database, client, plan, settings, each, stop)

        def keep(each: Input, done: _Work) -> None:
            store(database, done.rows, done.verdict)
            works.append((each, done))
            on_progress("ask", len(works), len(plan.inputs))

        on_progress("ask", 0, len(plan.inputs))
        with _pool(plan.options.threads, stop) as pool:
            for some in (plan.inputs[:1], plan.inputs[1:]):
                _gather({pool.submit(work, each): each for each in some}, stop, keep)
                if len(works) == 1 and works[0][1].final is not None:
                    raise works[0][1].final
    return _report(plan, works, prices)


@contextmanager
def _pool(threads: int, stop: threading.Event) -> Iterator[ThreadPoolExecutor]:
    """A pool whose threads stop before their next question when the work is broken off."""
    pool = ThreadPoolExecutor(threads)
    try:
        yield pool
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _gather(futures: Mapping[Future[_Work], Input], stop: threading.Event, keep: Callable[[Input, _Work], None]) -> None:
    """Keeps what each input gave; on an interruption also what is still under way, and then lets it through."""
    kept: set[Future[_Work]] = set()
    try:
        for future in as_completed(futures):
            kept.add(future)
            if future.cancelled():
                continue
            keep(futures[future], done := future.result())
            if done.final is not None:
                stop.set()
    except BaseException:
        stop.set()
        for future, each in futures.items():
            if future not in kept and not future.cancel():
                keep(each, future.result())
        raise


def _work(
    database: Database, client: httpx.Client, plan: Plan, settings: CurateSettings, each: Input, stop: threading.Event
) -> _Work:
    done = _Work()
    if stop.is_set():
        return done
    try:
        exchange = feed.get(database, each.candidate.exchange_id)
        content = feed.content(database, exchange)
    except NotFoundError as error:
        done.problems.append(error.what)
        return done
    captured = parameters_of(content)
    conversation, offered = feed.asked_of(exchange, content)
    for _ in range(each.missing):
        if stop.is_set():
            return done
        told = _ask(client, plan, each, exchange, captured, done)
        if told is None:
            if done.final is not None:
                return done
            continue
        cleaned = clean(exchange, conversation, settings, told.message, offered)
        reason = cleaned.reason or ("" if told.finish_reason.casefold() in _ENDED_WELL else "truncated")
        if reason or not told.exchange_id:
            done.unfit.append(reason or "not_captured")
            continue
        answer = Message("assistant", cleaned.target, cleaned.calls)
        row = new_relabel(plan.task, exchange.id, told.exchange_id, plan.options.model, answer)
        done.rows.append(row)
    if not stop.is_set():
        _decide(client, plan, each, done)
    return done


def _ask(
    client: httpx.Client, plan: Plan, each: Input, exchange: Exchange, captured: Mapping[str, Any], done: _Work
) -> Told | None:
    options, candidate = plan.options, each.candidate
    is_captured_model = options.model in (exchange.model_asked, exchange.model_served)
    protocol = options.protocol or (candidate.protocol if is_captured_model else protocol_of(options.model, candidate.protocol))
    question = Question(candidate.exchange_id, plan.task, protocol, candidate.messages, candidate.tools, options.model)
    done.asked += 1
    try:
        path, body = request_of(question, captured, candidate.protocol)
        told = ask(client, options.relay_url, path, body, purpose=RELABEL, task=plan.task, copy_of=candidate.exchange_id)
    except AskError as error:
        done.problems.append(error.what)
        done.final = error if error.is_final else None
        return None
    done.told.append((options.model, told))
    return told


def _decide(client: httpx.Client, plan: Plan, each: Input, done: _Work) -> None:
    """Chooses among the original and all answers that are stored; an input without other answers stays as it is."""
    exchange_id, original = each.candidate.exchange_id, each.original
    others = [row for row in (*each.stored, *done.rows) if not row.is_original]
    if not others:
        return
    judge = judging.judge_name(plan.options.judge) if plan.options.judge else ""
    distinct: dict[str, Message] = {} if original is None else {answer_key(original): original}
    for row in reversed(others):
        if len(distinct) < judging.MOST_ANSWERS:
            distinct.setdefault(answer_key(row.answer), row.answer)
    if len(distinct) == 1:
        done.is_same = True
        done.verdict = Verdict(exchange_id, judge, {}, others[0].id if original is None else "")
    elif not judge:
        chosen = most_frequent(original, [row for row in others if row.model == plan.options.model])
        done.verdict = Verdict(exchange_id, judge, {}, chosen)
    elif (scores := _judge(client, plan, each, list(distinct.values()), done)) is not None:
        told = dict(zip(distinct, scores, strict=True))
        by_row = {row.id: told[answer_key(row.answer)] for row in others if answer_key(row.answer) in told}
        chosen = best(None if original is None else scores[0], others, by_row)
        if original is not None:
            by_row[_row_of_original(plan, each, original, done)] = scores[0]
        done.verdict = Verdict(exchange_id, judge, by_row, chosen)


def _row_of_original(plan: Plan, each: Input, original: Message, done: _Work) -> str:
    """The id of the row that carries the original's score; a new one where it was never judged."""
    stored = next((row.id for row in each.stored if row.is_original), "")
    if stored:
        return stored
    candidate = each.candidate
    row = new_relabel(
        plan.task, candidate.exchange_id, candidate.exchange_id, candidate.teacher_model, original, "the captured answer"
    )
    done.rows.append(row)
    return row.id


def most_frequent(original: Message | None, rows: Sequence[Relabel]) -> str:
    """The id of a row with the answer that one teacher gave most often; '' where that is the original, or nothing leads."""
    counts = Counter(answer_key(row.answer) for row in rows)
    if not counts:
        return ""
    most = max(counts.values())
    leading = [key for key, count in counts.items() if count == most]
    if len(leading) > 1 or (original is not None and leading[0] == answer_key(original)):
        return ""
    return next(row.id for row in rows if answer_key(row.answer) == leading[0])


def best(original_score: float | None, rows: Sequence[Relabel], scores: Mapping[str, float]) -> str:
    """The id of the row with the highest score, the first of equals; '' where none is above the original's, if there is one."""
    scored = [row for row in rows if row.id in scores]
    top = max(scored, key=lambda row: scores[row.id], default=None)
    return top.id if top is not None and (original_score is None or scores[top.id] > original_score) else ""


def _judge(client: httpx.Client, plan: Plan, each: Input, answers: Sequence[Message], done: _Work) -> tuple[float, ...] | None:
    """The scores of `answers`, or None with the problem noted: a judgement that failed is never guessed."""
    try:
        forward = _scores(client, plan, each, answers, done)
        backward = _scores(client, plan, each, answers[::-1], done)[::-1]
        done.judgement = judging.settle(forward, backward)
    except (AskError, judging.JudgeError) as error:
        done.judge_problem = error.what
        done.final = error if isinstance(error, AskError) and error.is_final else None
        return None
    return done.judgement.scores


def _scores(client: httpx.Client, plan: Plan, each: Input, answers: Sequence[Message], done: _Work) -> tuple[float, ...]:
    options, candidate = plan.options, each.candidate
    sheet = judging.make_sheet(candidate.messages, candidate.tools, answers)
    prompt = (Message("system", sheet.system), Message("user", sheet.user))
    question = Question(candidate.exchange_id, plan.task, protocol_of(options.judge, OPENAI), prompt, (), options.judge)
    path, body = request_of(question, {"temperature": 0})
    told = ask(client, options.relay_url, path, body, purpose=JUDGE, task=plan.task, copy_of=candidate.exchange_id)
    done.told.append((options.judge, told))
    return judging.read_scores(told.message.text, sheet)


def _report(plan: Plan, done: Sequence[tuple[Input, _Work]], prices: PriceTable) -> Report:
    works = [work for _, work in done]
    decided = [work.verdict for work in works if work.verdict is not None]
    judgements = [work.judgement.first_place for work in works if work.judgement is not None]
    problems = [
        Problem(each.candidate.exchange_id, what)
        for each, work in done
        for what in (*work.problems, *([work.judge_problem] if work.judge_problem else []))
    ]
    costs = [_cost(model, told, prices) for work in works for model, told in work.told]
    final = next((work.final for work in works if work.final is not None), None)
    return Report(
        task=plan.task,
        model=plan.options.model,
        judge=judging.judge_name(plan.options.judge) if plan.options.judge else "",
        inputs=len(works),
        asked=sum(work.asked for work in works),
        answered=sum(not row.is_original for work in works for row in work.rows),
        failed=sum(len(work.problems) for work in works),
        unfit=dict(sorted(Counter(reason for work in works for reason in work.unfit).items())),
        relabelled=sum(bool(verdict.chosen) for verdict in decided),
        kept=len(works) - sum(bool(verdict.chosen) for verdict in decided),
        same=sum(work.is_same for work in works),
        judged=len(judgements),
        judgements_failed=sum(bool(work.judge_problem) for work in works),
        first_place=sum(judgements) / len(judgements) if judgements else None,
        cost_microusd=None if None in costs else sum(cost or 0 for cost in costs),
        problems=tuple(problems[:_MOST_PROBLEMS]),
        stopped=final.what if final is not None else "",
    )


def _cost(model: str, told: Told, prices: PriceTable) -> int | None:
    usage = told.usage
    return prices.cost_microusd(
        model, usage.tokens_in, usage.tokens_out, tokens_cached=usage.tokens_cached,
        tokens_cache_written=usage.tokens_cache_written, tokens_reasoning=usage.tokens_reasoning,
    )  # fmt: skip
