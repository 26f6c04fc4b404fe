"""What screens read from the store in a thread; rooms that need SQLModel are imported on first use, not at start-up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from capture import feed, feedback
from capture.database import Database
from capture.errors import NotFoundError
from capture.exchange import Content, Conversation, Exchange
from capture.feedback import Feedback
from capture.filters import parse_filter, quote

if TYPE_CHECKING:
    from curate.examples import Example
    from curate.reviewing.review import ReviewCard, ReviewProgress
    from serve.experiments import Comparison
    from serve.flag_store import FlagChange
    from serve.release_store import Release


@dataclass(frozen=True, slots=True)
class Detail:
    """What is known of one exchange besides its row. `content` and `conversation` are None when they are no longer stored."""

    content: Content | None = None
    conversation: Conversation | None = None
    feedback: tuple[Feedback, ...] = ()


def detail(database: Database, exchange: Exchange) -> Detail:
    """What was asked and answered, and what people thought of it."""
    said = tuple(feedback.of_exchange(database, exchange.id))
    try:
        content = feed.content(database, exchange)
    except NotFoundError:
        return Detail(feedback=said)
    return Detail(content, feed.conversation_of(exchange, content), said)


@dataclass(frozen=True, slots=True)
class Pile:
    """The cards of one task that wait in Review. `tasks` are all tasks that have a dataset version; None: there are none."""

    tasks: tuple[str, ...] = ()
    task: str = ""
    cards: tuple[ReviewCard, ...] = ()
    progress: ReviewProgress | None = None


def pile(database: Database, wanted: Sequence[str], limit: int, who: str = "", second_opinion: int = 0) -> Pile:
    """The next `limit` cards that wait for `who` in the first of the tasks `wanted` that has a dataset version.

    When none has, of the first task with a card, else of the first task. With `second_opinion` n, one in n of those that
    others judged is among them.
    """
    from curate import datasets
    from curate.reviewing import review
    from curate.tasks.aliases import canonical

    tasks = tuple(sorted({canonical(database, version.task) for version in datasets.versions(database)}))
    if not tasks:
        return Pile()
    task = next((name for tag in wanted if (name := canonical(database, tag)) in tasks), "")
    task = task or next((name for name in tasks if review.queue(database, name, 1, who, second_opinion)), tasks[0])
    cards = review.queue(database, task, limit, who, second_opinion)
    return Pile(tasks, task, tuple(cards), review.progress(database, task, who, second_opinion))


@dataclass(frozen=True, slots=True)
class AuditPile:
    """The examples of the newest audit of `task` that wait for a finding, and its result so far. `number` 0: there is none."""

    task: str
    number: int = 0
    examples: tuple[Example, ...] = ()
    sentence: str = ""


def audit_pile(database: Database, task: str, who: str) -> AuditPile:
    """What waits of the audit of the newest version of `task` that has one."""
    from curate import datasets
    from curate.reviewing import audit
    from curate.splits import SPLITS

    for version in reversed(datasets.versions(database, task)):
        if (found := audit.latest_audit(database, task, version.number)) is not None:
            by_id = {each.exchange_id: each for split in SPLITS for each in datasets.load_split(version, split)}
            waiting = audit.next_up(database, task, version.number, who, limit=len(found.audit.exchange_ids))
            chosen = tuple(by_id[exchange_id] for exchange_id in waiting if exchange_id in by_id)
            return AuditPile(task, version.number, chosen, found.sentence)
    return AuditPile(task)


@dataclass(frozen=True, slots=True)
class Rollout:
    """What the Rollout screen shows of one task. Shares are basis points.

    `tasks` are all tasks that have a release or a flag. `candidate` is the release in force, else the newest ready one, and
    None when no release is ready. `comparison` is None when no release ever got a share.
    """

    tasks: tuple[str, ...] = ()
    task: str = ""
    share_bp: int = 0
    unit: str = ""
    revision: int = 0
    teacher: str = ""
    candidate: Release | None = None
    releases: tuple[Release, ...] = ()
    history: tuple[FlagChange, ...] = ()
    comparison: Comparison | None = None


def rollout(database: Database, wanted: Sequence[str]) -> Rollout:
    """Flag, releases and history of the first of the tasks `wanted` that has any, else of the first such task.

    Without the comparison, which takes longer.
    """
    from serve import flag_store, release_store

    flags = flag_store.read_snapshot(database).flags
    releases = release_store.list_releases(database)
    tasks = tuple(sorted({release.task for release in releases} | set(flags)))
    if not tasks:
        return Rollout()
    task = next((name for name in wanted if name in tasks), tasks[0])
    flag = flags.get(task)
    own = tuple(release for release in releases if release.task == task)
    in_force = next((release for release in own if flag and flag.share_bp and release.id == flag.release_id), None)
    newest_ready = next((release for release in own if release.state == release_store.READY), None)
    baseline = feed.page(database, parse_filter(f"task:{quote(task)} -variant:candidate"), limit=1)
    return Rollout(
        tasks=tasks,
        task=task,
        share_bp=flag.share_bp if flag else 0,
        unit=flag.unit if flag else "",
        revision=flag.revision if flag else 0,
        teacher=baseline[0].model_served or baseline[0].model_asked if baseline else "",
        candidate=in_force or newest_ready,
        releases=own,
        history=tuple(flag_store.history(database, task)),
    )


def comparison(database: Database, task: str) -> Comparison | None:
    """The A/B table of `task`; None when no release ever got a share."""
    from serve import experiments

    try:
        return experiments.compare(database, task)
    except NotFoundError:
        return None
