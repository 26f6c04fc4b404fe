"""Relabel: another teacher answers a task's inputs again through our own relay, and a judge chooses among the answers.

The original answer stays where it is. What is asked is the input as a dataset would hold it, without personal data where the
policy says so. Inputs whose split is val, test or golden are left out unless told otherwise: a target that changes there
changes what every student before was measured by. What is stored is not asked again, so work that was broken off goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from capture.assemble import ANTHROPIC, OPENAI
from capture.database import Database
from capture.errors import PotstillError
from capture.messages import Message
from capture.offered import Tool
from capture.pricing import PriceTable
from capture.progress import Progress
from capture.statements import among, few
from curate.golden import pins
from curate.history import sides_of
from curate.relabelling.bad_answers import badly_answered
from curate.relabelling.judging import MOST_ANSWERS, judge_name
from curate.relabelling.relabel_store import Relabel, relabels
from curate.relabelling.targets import accepted_hashes, person_settled, read_targets, still_accepted
from curate.reviewing.review import hash_of, queue
from curate.selection import Candidate, require_task, select
from curate.settings import CurateSettings
from curate.splits import GOLDEN, TRAIN
from curate.tasks.aliases import expand, names_of
from curate.terms import goes, terms_of

FILTER, IN_TRAIN, IN_REVIEW, BAD_ANSWERS = "filter", "train", "review", "bad-answers"
ONLY = (FILTER, IN_TRAIN, IN_REVIEW, BAD_ANSWERS)
"""Which inputs: all that the filter selects, those in the train split of the latest version, those of which the review queue
says why a person should look, or those that cannot teach for their answer alone (see `curate.relabelling.bad_answers`)."""

EVAL, BY_A_PERSON, SAME_INPUT, DONE = "eval", "settled_by_a_person", "same_input", "done"
CANNOT_TEACH, BEYOND = "cannot_teach", "beyond_limit"
_MOST_QUEUED = 100_000
_JUDGE_PROMPT_TOKENS, _JUDGE_TOKENS_PER_ANSWER = 300, 12


class RelabelError(PotstillError):
    """A relabel cannot be done as it was asked for."""


@dataclass(frozen=True, slots=True)
class RelabelOptions:
    """Who answers, how often, who judges ('' for nobody), which inputs, and how it is asked. `limit` 0 is all inputs.

    `protocol` is openai or anthropic, '' for the one that the model's name or the captured request tells.
    """

    model: str
    n: int = 1
    judge: str = ""
    only: str = FILTER
    limit: int = 0
    relay_url: str = "http://127.0.0.1:8484"
    protocol: str = ""
    include_eval: bool = False
    threads: int = 4
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        if not self.model.strip():
            raise RelabelError("No model is named.", "Give --model with a name that the relay's upstreams know.")
        if not 1 <= self.n < MOST_ANSWERS:
            raise RelabelError(f"{self.n} answers to each input is not between 1 and {MOST_ANSWERS - 1}.", "Give another --n.")
        if self.only not in ONLY:
            raise RelabelError(f"{self.only!r} selects no inputs.", f"Use one of {', '.join(ONLY)}.")
        if self.protocol not in ("", OPENAI, ANTHROPIC):
            raise RelabelError(f"{self.protocol!r} is no protocol that is asked in.", f"Use {OPENAI} or {ANTHROPIC}.")
        if not 1 <= self.threads <= 64 or self.timeout_s <= 0 or self.limit < 0:
            raise RelabelError("threads must be from 1 to 64, the timeout above 0 and the limit not negative.", "Mend the value.")


@dataclass(frozen=True, slots=True)
class Input:
    """One input to ask about: what is stored of other answers, and how many of the model's are missing.

    `original` is the captured answer, None where that cannot teach.
    """

    candidate: Candidate
    original: Message | None
    stored: tuple[Relabel, ...]
    missing: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a relabel would do: `questions` to the model, at most `judgements` of two questions each, and what it may cost.

    `skipped` counts exchanges by why they are not asked about; those that cleaning drops cannot teach. `cost_microusd` is an
    estimate from the tokens of the captured requests and answers (a wordier model costs more), None where a price is unknown;
    `cost_basis` says whose prices. `terms` are those of the model's answers, as a dataset would carry them.
    """

    task: str
    options: RelabelOptions
    inputs: tuple[Input, ...]
    skipped: Mapping[str, int]
    questions: int
    judgements: int
    cost_microusd: int | None
    cost_basis: str
    terms: str


def make_plan(
    database: Database, task: str, settings: CurateSettings, options: RelabelOptions, prices: PriceTable, on_progress: Progress
) -> Plan:
    """Looks which inputs of `task` are to be asked about; asks nobody.

    NotFoundError for an unknown task, RelabelError where the terms of the model would drop all its answers from a dataset.
    """
    tags = expand(database, task)
    require_task(database, task, tags)
    terms = terms_of(options.model, teacher_terms=settings.teacher_terms)
    if goes(terms, settings.terms):
        raise RelabelError(
            f"The answers of {options.model!r} would be dropped from every dataset ({terms.words}): {terms.why}.",
            "Ask another model, or say in [curate] teacher_terms what your contract allows.",
        )
    people = read_targets(database, task, with_relabels=False)
    selection = select(database, tags, people, settings, on_progress)
    skipped: Counter[str] = Counter({CANNOT_TEACH: len(selection.dropped)} if selection.dropped else {})
    is_bad = options.only == BAD_ANSWERS
    found = list(badly_answered(database, selection.dropped, settings)) if is_bad else selection.candidates
    if is_bad:
        skipped = Counter({CANNOT_TEACH: len(selection.dropped) - len(found)})
    candidates = _wanted(database, task, options, found, person_settled(people) | _accepted(database, task, found), skipped)
    candidates = _one_each(candidates, _kept(database, task), skipped)
    stored = relabels(database, task, [candidate.exchange_id for candidate in candidates])
    inputs = []
    for candidate in candidates:
        rows = tuple(stored.get(candidate.exchange_id, ()))
        missing = max(0, options.n - sum(row.model == options.model and not row.is_original for row in rows))
        if missing or (options.judge and any(row.judge != judge_name(options.judge) for row in rows)):
            inputs.append(Input(candidate, None if is_bad else candidate.answer, rows, missing))
        else:
            skipped[DONE] += 1
    if options.limit and len(inputs) > options.limit:
        skipped[BEYOND] += len(inputs) - options.limit
        inputs = inputs[: options.limit]
    questions = sum(each.missing for each in inputs)
    cost, basis = _estimate(database, options, inputs, prices)
    judgements = len(inputs) if options.judge else 0
    return Plan(
        task,
        options,
        tuple(inputs),
        {reason: count for reason, count in sorted(skipped.items()) if count},
        questions,
        judgements,
        cost,
        basis,
        terms.words,
    )


def _wanted(
    database: Database, task: str, options: RelabelOptions, candidates: Sequence[Candidate], settled: set[str],
    skipped: Counter[str],
) -> list[Candidate]:  # fmt: skip
    sides, kept = _sides(database, task), _kept(database, task)
    waiting = (
        {card.exchange_id for card in queue(database, task, _MOST_QUEUED) if card.note} if options.only == IN_REVIEW else set()
    )
    wanted = []
    for candidate in candidates:
        side = sides.get(candidate.input_key, "")
        if options.only == IN_TRAIN and kept.get(candidate.exchange_id) != TRAIN:
            continue
        if options.only == IN_REVIEW and candidate.exchange_id not in waiting:
            continue
        if candidate.exchange_id in settled:
            skipped[BY_A_PERSON] += 1
        elif side not in ("", TRAIN) and not options.include_eval:
            skipped[EVAL] += 1
        else:
            wanted.append(candidate)
    return wanted


def _accepted(database: Database, task: str, candidates: Sequence[Candidate]) -> set[str]:
    """The exchanges whose captured answer, or another that is stored, was accepted by a reviewer."""
    hashes = accepted_hashes(database, task)
    stored = relabels(database, task, sorted(hashes))
    told = {id for id, rows in stored.items() if hashes[id] in {hash_of(row.answer) for row in rows}}
    return told | still_accepted(candidates, hashes)


def _one_each(candidates: Sequence[Candidate], kept: Mapping[str, str], skipped: Counter[str]) -> list[Candidate]:
    """One candidate of each input: that of the latest version, else the newest."""
    ordered = sorted(candidates, key=lambda each: (each.exchange_id not in kept, -each.started_us, each.exchange_id))
    first: dict[tuple[tuple[Message, ...], tuple[Tool, ...]], Candidate] = {}
    for candidate in ordered:
        first.setdefault((candidate.messages, candidate.tools), candidate)
    if len(first) < len(candidates):
        skipped[SAME_INPUT] += len(candidates) - len(first)
    return sorted(first.values(), key=lambda each: (-each.started_us, each.exchange_id))


def _sides(database: Database, task: str) -> dict[str, str]:
    """The split of each input that has one; pinned ones are golden."""
    with database.read() as connection:
        sides = sides_of(connection, task)
    return sides | {one.input_key: GOLDEN for one in pins(database, task)}


def _kept(database: Database, task: str) -> dict[str, str]:
    query = among("SELECT exchange_id, split FROM examples WHERE task IN :names AND split <> ''")
    with database.read() as connection:
        return {row[0]: row[1] for row in connection.execute(query, {"names": names_of(connection, task)})}


def _estimate(database: Database, options: RelabelOptions, inputs: Sequence[Input], prices: PriceTable) -> tuple[int | None, str]:
    """What asking may cost, and by whose prices; the tokens are those of the captured requests."""
    tokens = _tokens(database, [each.candidate.exchange_id for each in inputs])
    costs: list[int | None] = []
    basis = f"the price of {options.model}, for answers as long as the captured ones"
    for each in inputs:
        tokens_in, tokens_out, captured = tokens.get(each.candidate.exchange_id, (None, None, None))
        if each.missing:
            cost = prices.cost_microusd(options.model, tokens_in, tokens_out)
            if cost is None:
                cost, basis = captured, "what the captured requests cost"
            costs.append(None if cost is None else each.missing * cost)
        if options.judge:
            costs.append(_judging_cost(options.judge, 1 + len(each.stored) + each.missing, tokens_in, tokens_out, prices))
    if None in costs:
        return None, "unknown"
    return sum(cost or 0 for cost in costs), f"{basis}, and of {options.judge}" if options.judge else basis


def _judging_cost(judge: str, answers: int, tokens_in: int | None, tokens_out: int | None, prices: PriceTable) -> int | None:
    """Of both orders."""
    if tokens_in is None or tokens_out is None:
        return None
    told = tokens_in + answers * tokens_out + _JUDGE_PROMPT_TOKENS
    cost = prices.cost_microusd(judge, told, answers * _JUDGE_TOKENS_PER_ANSWER)
    return None if cost is None else 2 * cost


def _tokens(database: Database, exchange_ids: Sequence[str]) -> dict[str, tuple[int | None, int | None, int | None]]:
    statement = among("SELECT id, tokens_in, tokens_out, cost_microusd FROM exchanges WHERE id IN :ids")
    found = {}
    with database.read() as connection:
        for some in few(exchange_ids):
            for row in connection.execute(statement, {"ids": some}):
                found[row[0]] = (row[1], row[2], row[3])
    return found
