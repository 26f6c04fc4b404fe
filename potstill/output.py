"""The only writer of stdout and stderr: text for people, JSON for programs, exit codes for both.

Captured text is hostile: control characters are shown as escapes and never as markup.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from capture.errors import PotstillError
from potstill.tables import lay_out


class ExitCode(enum.IntEnum):
    """What the exit code says."""

    OK = 0
    FAILED = 1
    """A Potstill error: cause and next step stand on stderr. Or a check found something bad (doctor, verify)."""
    USAGE = 2
    """The command line itself was wrong."""
    FALLS_SHORT = 3
    """Everything ran, but a figure missed its bound (demo)."""
    INTERRUPTED = 130
    """Ctrl-C."""


_PIPE_WIDTH = 160
_LINE_EVERY_S = 10.0
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")


def safe(text: str) -> str:
    """`text` with control, bidirectional and zero-width characters as visible escapes; newline and tab stay."""
    return _CONTROL.sub(
        lambda match: f"\\x{ord(match.group()):02x}" if ord(match.group()) < 256 else f"\\u{ord(match.group()):04x}", text
    )


def one_line(text: str, width: int) -> str:
    """`text` on one line of at most `width` characters, safe to show; a cut is marked by an ellipsis."""
    flat = " ".join(safe(text).split())
    return flat if len(flat) <= width else flat[: max(width - 1, 0)] + "…"


def counted(count: int, noun: str) -> str:
    """`count` with its noun in the singular or plural: 1 exchange, 1,200 exchanges."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _cell(text: str) -> str:
    indent = len(text) - len(text.lstrip(" "))
    return " " * indent + one_line(text, 400)


def plain(value: Any) -> Any:
    """`value` as what JSON can carry: dataclasses as objects, paths as text, enums as their values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value


def _console(*, is_stderr: bool) -> Console:
    is_terminal = (sys.stderr if is_stderr else sys.stdout).isatty()
    return Console(
        stderr=is_stderr, width=None if is_terminal else _PIPE_WIDTH, highlight=False, soft_wrap=True, markup=False, emoji=False
    )


class _Progress(Progress):
    """Bars on a terminal; elsewhere a line every ten seconds and at the end of each task."""

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """As `Progress.update`."""
        super().update(task_id, **changes)
        task = self.tasks[task_id]
        now = time.monotonic()
        is_due = now - task.fields.get("told_s", task.start_time or now) >= _LINE_EVERY_S
        is_told = task.fields.get("is_told", False)
        if self.disable and not is_told and (is_due or task.finished):
            task.fields |= {"told_s": now, "is_told": task.finished}
            of_total = "" if task.total is None else f"{task.completed:.0f} of {task.total:.0f}"
            self.console.print(Text(f"  {task.description}: {of_total} {safe(str(task.fields.get('note', '')))}".rstrip()))


class Output:
    """Where a command prints. With `as_json`, text goes to stderr and stdout carries JSON alone."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self.console = _console(is_stderr=as_json)
        self._errors = _console(is_stderr=True)

    @property
    def is_terminal(self) -> bool:
        """True when a person watches; progress bars move only then."""
        return self._errors.is_terminal

    def say(self, text: str = "", style: str = "") -> None:
        """One or more lines for people."""
        self.console.print(Text(safe(text), style=style))

    def heading(self, text: str) -> None:
        """A line that begins a part of a longer story."""
        self.console.print()
        self.console.print(Text(safe(text), style="bold"))

    def json(self, value: Any) -> None:
        """One JSON object or list on one line of stdout."""
        sys.stdout.write(json.dumps(plain(value), ensure_ascii=False) + "\n")
        sys.stdout.flush()

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> None:
        """A table for people; `right` names the columns of numbers."""
        cells = [[_cell(str(cell)) for cell in row] for row in rows]
        for part in lay_out(columns, cells, self.console.width, right=right):
            self.console.print(part)

    def error(self, error: PotstillError) -> None:
        """What went wrong and what to do next, on stderr."""
        self._errors.print(Text(f"potstill: {safe(error.what)}", style="bold red"))
        if error.next_step:
            self._errors.print(Text(f"  {safe(error.next_step)}"))

    def warn(self, what: str, next_step: str) -> None:
        """What was done and may not be what was meant, on stderr."""
        self._errors.print(Text(f"potstill: warning: {safe(what)}", style="yellow"))
        if next_step:
            self._errors.print(Text(f"  {safe(next_step)}"))

    @contextmanager
    def stages(self) -> Iterator[Callable[[str, int, int], None]]:
        """Progress of a work in stages: the callback takes stage, done and total; a new stage ends the one before."""
        with self.progress() as progress:
            stages: dict[str, TaskID] = {}

            def show(stage: str, done: int, total: int) -> None:
                if stage not in stages:
                    for earlier in stages.values():
                        progress.update(earlier, completed=progress.tasks[earlier].total)
                    stages[stage] = progress.add_task(stage, total=total, note="")
                progress.update(stages[stage], completed=done, total=total)

            yield show

    def progress(self) -> Progress:
        """A progress display on stderr: bars for a terminal, a line now and then for anything else."""
        return _Progress(
            TextColumn("  {task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._errors,
            disable=not self._errors.is_terminal,
        )
