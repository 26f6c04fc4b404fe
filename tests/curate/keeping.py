"""Settles and keeps a template, as a build does."""

from __future__ import annotations

from collections.abc import Sequence

from capture.database import Database
from curate.likeness.templates import Asked, Template
from curate.tasks.kept_templates import Change, keep_template, settle_template, template_versions


def settled(
    database: Database, task: str, mined: Template, asked: Sequence[Asked], first_us: int = 0
) -> tuple[Template, int, Change | None]:
    """The template that is used, its version, and what changed."""
    found = settle_template(template_versions(database, task), task, mined, asked)
    with database.write() as connection:
        keep_template(connection, found, first_us)
    return found.template, found.number, found.change
