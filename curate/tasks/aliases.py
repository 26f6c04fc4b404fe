"""Other names of tasks: what is tagged with an alias counts as the task. Nothing that is stored is changed.

One level only: an alias of an alias, or a circle, would leave open which task a dataset is of.
"""

from __future__ import annotations

from collections import defaultdict

from sqlalchemy import Connection, text

from capture import clock, feed
from capture.database import Database
from capture.errors import NotFoundError, SettingsError
from capture.statements import insert
from curate.tasks.counts import from_apps


def expand(database: Database, task: str) -> tuple[str, ...]:
    """Every tag that counts as `task`: itself, then its aliases by name."""
    with database.read() as connection:
        return names_of(connection, task)


def names_of(connection: Connection, task: str) -> tuple[str, ...]:
    """As `expand`, for whoever reads what is stored under any of these names."""
    sql = "SELECT alias FROM task_aliases WHERE task = :task ORDER BY alias"
    return (task, *(row[0] for row in connection.execute(text(sql), {"task": task})))


def canonical(database: Database, tag: str) -> str:
    """The task that exchanges with this tag count as: `tag` itself unless it is an alias. Commands ask it of what was typed."""
    with database.read() as connection:
        return _whole(connection, tag)


def every_name(connection: Connection, tag: str) -> tuple[str, ...]:
    """The task that `tag` counts as, then all its aliases."""
    return names_of(connection, _whole(connection, tag))


def _whole(connection: Connection, tag: str) -> str:
    found = connection.execute(text("SELECT task FROM task_aliases WHERE alias = :tag"), {"tag": tag}).scalar()
    return tag if found is None else str(found)


def aliases(database: Database) -> dict[str, tuple[str, ...]]:
    """The aliases of each task that has any."""
    found: dict[str, list[str]] = defaultdict(list)
    with database.read() as connection:
        for task, alias in connection.execute(text("SELECT task, alias FROM task_aliases ORDER BY task, alias")):
            found[task].append(alias)
    return {task: tuple(names) for task, names in found.items()}


def add_alias(database: Database, task: str, alias: str, *, who: str = "") -> None:
    """From now on `alias` counts as `task`. SettingsError where that would make a chain, a circle, or a second meaning."""
    if not task or not alias:
        raise SettingsError("A task without a name cannot have or be an alias.", "Name untagged traffic: potstill tasks suggest")
    if task == alias:
        raise SettingsError(f"{alias!r} cannot be another name of itself.", "Give two different names.")
    with database.write() as connection:
        known = {row[0]: row[1] for row in connection.execute(text("SELECT alias, task FROM task_aliases ORDER BY alias"))}
        if known.get(alias) == task:
            return
        if alias in known:
            what = f"{alias!r} is another name of task {known[alias]!r} already."
            raise SettingsError(what, f"Take it back first: potstill tasks unalias {alias}")
        if known.get(task) == alias:
            raise SettingsError(f"{task!r} is another name of {alias!r}: that would be a circle.", f"Take back {task!r} first.")
        if task in known:
            what = f"{task!r} is itself another name of task {known[task]!r}."
            raise SettingsError(what, f"Make {alias!r} another name of {known[task]!r} instead.")
        if own := [name for name, whole in known.items() if whole == alias]:
            what = f"Task {alias!r} has other names itself: {', '.join(own)}."
            raise SettingsError(what, f"Take them back first (potstill tasks unalias {own[0]}), then give them to {task!r}.")
        values = {"alias": alias, "task": task, "who": who, "created_us": clock.now_us()}
        insert(connection, "task_aliases", [values])


def merge_tasks(database: Database, old: str, into: str, *, who: str = "") -> int:
    """Counts all that is tagged `old` as `into`; how many exchanges of apps those are.

    NotFoundError when either has no traffic, SettingsError as `add_alias`. `remove_alias` undoes it.
    """
    known = [summary.task for summary in feed.tasks(database) if summary.task]
    for task in (old, into):
        if task not in known:
            names = ", ".join(known) or "none yet"
            raise NotFoundError(f"There is no task {task!r}.", f"Tasks with traffic: {names}.")
    add_alias(database, into, old, who=who)
    return from_apps(database).get(old, 0)


def remove_alias(database: Database, alias: str) -> str:
    """Lets `alias` be a task of its own again; the task that it counted as. NotFoundError when it is no alias."""
    with database.write() as connection:
        found = connection.execute(text("SELECT task FROM task_aliases WHERE alias = :alias"), {"alias": alias}).scalar()
        connection.execute(text("DELETE FROM task_aliases WHERE alias = :alias"), {"alias": alias})
    if found is None:
        raise NotFoundError(f"{alias!r} is no other name of a task.", "See them in: potstill tasks")
    return str(found)
