"""Names for untagged traffic: a rule says that prompts of a template belong to a task.

A rule is a row of task_names, and what its template is known by a row of task_templates under the task '': hashes of pieces, no
text. Stored exchanges get the task when the rule is made, later ones when the rules are applied again: at a build, or on demand.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, text

from capture import clock, feed, retag
from capture.database import Database
from capture.errors import NotFoundError, SettingsError
from capture.filters import parse_filter
from capture.ids import content_hash
from capture.progress import Progress, tell_nobody
from capture.statements import insert
from curate.likeness.hashing import Hashes
from curate.tasks.aliases import canonical
from curate.tasks.prompt_groups import Group
from curate.tasks.prompts import SYSTEM, TALK, Prompt, PromptReader, word_count
from curate.tasks.untagged import UNTAGGED, find_templates

_TASK = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,100}")
_HELD, _AS_EXPLAINED = 0.8, 0.5
_MANY = 500
_APPLIED = "task_names:applied"


@dataclass(frozen=True, slots=True)
class Rule:
    """Untagged exchanges of a template belong to `task`.

    An exchange is of the template when it was sent to `path`, holds most of its `core` in either part (`words` of them), and
    the core explains about as much of it as of the exchanges that the rule was made of (`explained`, a share).
    """

    fingerprint: str
    task: str
    who: str
    created_us: int
    path: str
    core: tuple[Hashes, Hashes]
    words: tuple[int, int]
    explained: tuple[float, float]

    def matched(self, prompt: Prompt, path: str) -> int:
        """How many words of the core `prompt` holds; 0 when it is not of the template."""
        total = 0
        for part in (SYSTEM, TALK) if path == self.path else ():
            inside = np.isin(prompt.pieces, self.core[part], assume_unique=True) & (prompt.part == part)
            held = int(prompt.words[inside].sum())
            if held < max(_HELD * self.words[part], _AS_EXPLAINED * self.explained[part] * word_count(prompt, part)):
                return 0
            total += held
        return total


@dataclass(frozen=True, slots=True)
class Named:
    """What came of the rules: how many exchanges without a task were looked at, and how many each task was given."""

    looked_at: int
    given: Mapping[str, int]


def check_task_name(task: str) -> None:
    """SettingsError unless an app could send `task` as its tag."""
    if not _TASK.fullmatch(task):
        what = f"{task[:100]!r} cannot be the name of a task."
        raise SettingsError(what, "Take 1 to 100 of A-Z a-z 0-9 . _ - and no dot in front.")


def name_task(
    database: Database, fingerprint: str, task: str, *, who: str = "", newest: int = 5_000, on_progress: Progress = tell_nobody
) -> Named:
    """Gives untagged exchanges of a template to `task`, those that are stored and those to come.

    `fingerprint` is one that `suggest_tasks` shows among the `newest`. NotFoundError when it is not there; SettingsError for a
    name that no task may have, for an alias, or when the template belongs to another task already.
    """
    check_task_name(task)
    if (whole := canonical(database, task)) != task:
        raise SettingsError(f"{task!r} is another name of task {whole!r}.", f"Name the traffic {whole!r}.")
    known = next((rule for rule in rules(database) if rule.fingerprint == fingerprint), None)
    if known is not None and known.task != task:
        what = f"The template {fingerprint} belongs to task {known.task!r} already."
        raise SettingsError(what, f"Take it back first: potstill tasks unname {fingerprint}")
    if known is None:
        _, templates = find_templates(database, newest=newest, least=1, on_progress=on_progress)
        found = next((template for template in templates if template.group.fingerprint == fingerprint), None)
        if found is None:
            what = f"No untagged traffic has the template {fingerprint!r}."
            raise NotFoundError(what, "See which there are: potstill tasks suggest")
        with database.write() as connection:
            _insert(connection, found.group, found.path, task, who, min(each.started_us for each in found.exchanges))
    return apply_names(database, on_progress=on_progress)


def unname_task(database: Database, fingerprint: str) -> tuple[str, int]:
    """Forgets a rule and takes the task back from what it gave it to: which task, and how many exchanges. NotFoundError."""
    found = next((rule for rule in rules(database) if rule.fingerprint == fingerprint), None)
    if found is None:
        names = ", ".join(rule.fingerprint for rule in rules(database)) or "none yet"
        raise NotFoundError(f"No name was given to template {fingerprint!r}.", f"Named templates: {names}.")
    with database.write() as connection:
        connection.execute(text("DELETE FROM task_names WHERE fingerprint = :fingerprint"), {"fingerprint": fingerprint})
        own = {"fingerprint": fingerprint}
        connection.execute(text("DELETE FROM task_templates WHERE task = '' AND fingerprint = :fingerprint"), own)
    return found.task, retag.take_task(database, found.task, fingerprint)


def rules(database: Database) -> list[Rule]:
    """All rules, the oldest first."""
    sql = """SELECT n.fingerprint, n.task, n.who, n.created_us, t.template FROM task_names n
        JOIN task_templates t ON t.task = '' AND t.fingerprint = n.fingerprint ORDER BY n.created_us, n.fingerprint"""
    with database.read() as connection:
        return [_rule(*row) for row in connection.execute(text(sql))]


def apply_names(database: Database, *, on_progress: Progress = tell_nobody) -> Named:
    """Gives exchanges that have no task the task of the rule that says the most of their words.

    Cheap where nothing is new: what these same rules have looked at is not looked at again.
    """
    known = rules(database)
    if not known:
        return Named(0, {})
    key = content_hash(" ".join(f"{rule.fingerprint}:{rule.task}" for rule in known).encode())
    start, end = _applied_up_to(database, key), feed.newest(database)
    given: Counter[str] = Counter()
    waiting: dict[tuple[str, str], list[int]] = {}
    looked_at, reader = 0, PromptReader()
    for exchange, content in feed.with_readable(database, parse_filter(UNTAGGED), start=start, end=end) if end > start else ():
        if looked_at % _MANY == 0:
            on_progress("name what has no task", exchange.number - start, end - start)
            _give(database, waiting, given)
        looked_at += 1
        if content is None:
            continue
        rule = best_rule(known, reader.read(feed.conversation_of(exchange, content).asked), exchange.path)
        if rule is not None:
            waiting.setdefault((rule.task, rule.fingerprint), []).append(exchange.number)
    _give(database, waiting, given)
    on_progress("name what has no task", 1, 1)
    with database.write() as connection:
        connection.execute(text("DELETE FROM meta WHERE name = :name"), {"name": _APPLIED})
        insert(connection, "meta", [{"name": _APPLIED, "value": json.dumps({"rules": key, "number": end})}])
    return Named(looked_at, dict(sorted(given.items())))


def best_rule(known: Sequence[Rule], prompt: Prompt, path: str) -> Rule | None:
    """The rule whose template says the most of the words of `prompt`; the oldest of equals, None when it is of no template."""
    matched = [rule.matched(prompt, path) for rule in known]
    return known[matched.index(max(matched))] if any(matched) else None


def _give(database: Database, waiting: dict[tuple[str, str], list[int]], given: Counter[str]) -> None:
    for (task, fingerprint), numbers in sorted(waiting.items()):
        given[task] += retag.give_task(database, numbers, task, fingerprint)
    waiting.clear()


def _applied_up_to(database: Database, key: str) -> int:
    with database.read() as connection:
        value = connection.execute(text("SELECT value FROM meta WHERE name = :name"), {"name": _APPLIED}).scalar()
    applied = json.loads(value) if value else {}
    return int(applied["number"]) if applied.get("rules") == key else 0


def _insert(connection: Connection, group: Group, path: str, task: str, who: str, first_us: int) -> None:
    now = clock.now_us()
    template = {
        "path": path,
        "core": [[f"{piece:016x}" for piece in sorted(group.core[part])] for part in (SYSTEM, TALK)],
        "words": list(group.words),
        "explained": list(group.explained),
    }
    named = {"fingerprint": group.fingerprint, "task": task, "who": who, "created_us": now}
    insert(connection, "task_names", [named])
    number = connection.execute(text("SELECT COALESCE(MAX(version), 0) + 1 FROM task_templates WHERE task = ''")).scalar_one()
    values = {
        "task": "", "version": number, "fingerprint": group.fingerprint, "template": json.dumps(template),
        "distinct_inputs": len(group.members), "first_us": first_us, "created_us": now,
    }  # fmt: skip
    insert(connection, "task_templates", [values])


def _rule(fingerprint: str, task: str, who: str, created_us: int, template: str) -> Rule:
    kept: dict[str, Any] = json.loads(template)
    system, talk = (np.array([int(piece, 16) for piece in pieces], dtype=np.uint64) for pieces in kept["core"])
    words, explained = kept["words"], kept["explained"]
    return Rule(
        fingerprint, task, who, int(created_us), kept["path"], (system, talk), (words[0], words[1]), (explained[0], explained[1])
    )
