"""What our processes write to their logs: text, or one JSON object a line, for people and log collectors.

No content of an exchange is ever logged on purpose; whatever else gets into a message, a credential with a form of its own
is taken out of it before it is written.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import Any

import msgspec

from capture import clock
from capture.redact import redact_text

TEXT, JSON = "text", "json"


@dataclass(frozen=True, slots=True)
class LogSettings:
    """The logs of the processes under `potstill up`: section [logs]. Each has a file of its own in logs/ of the data folder."""

    format: str = TEXT
    """text, or json: one object a line with time, level, logger, pid and message."""
    max_mib: int = 16
    """A log that grows beyond this is kept aside as .1, and a new one begins."""
    keep: int = 3
    """How many old logs of each process are kept."""

    def __post_init__(self) -> None:
        if self.format not in (TEXT, JSON):
            raise ValueError(f"format is {self.format!r}, not {TEXT} or {JSON}")
        for name, lowest in (("max_mib", 1), ("keep", 0)):
            if getattr(self, name) < lowest:
                raise ValueError(f"{name} is {getattr(self, name)}, not at least {lowest}")


def set_up(settings: LogSettings, level: int) -> None:
    """Sends this process's log to standard error in the form of `settings`; to be called once, before anything is logged."""
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonFormatter() if settings.format == JSON else _TextFormatter(_TEXT_FORM))
    logging.basicConfig(level=level, handlers=[handler])


def json_line(level: str, logger: str, message: str, **more: str) -> str:
    """One line of a JSON log, without its end; what is empty in `more` is left out."""
    said: dict[str, Any] = {"time": clock.iso(clock.now_us()), "level": level, "logger": logger, "pid": os.getpid()}
    said |= {"message": message} | {name: value for name, value in more.items() if value}
    return redact_text(msgspec.json.encode(said).decode())[0]


_TEXT_FORM = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redact_text(super().format(record))[0]


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        error = trace = ""
        if record.exc_info and record.exc_info[0] is not None:
            error, trace = record.exc_info[0].__name__, self.formatException(record.exc_info)
        return json_line(record.levelname.lower(), record.name, record.getMessage(), error=error, trace=trace)
