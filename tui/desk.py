"""What all screens share: the store, who sits here, and the task in focus."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from capture.database import Database
from capture.pseudonyms import PersonalPolicy


@dataclass(slots=True)
class Desk:
    """One per app, changed on the event loop only.

    `task` is the task in focus, kept between screens; `waiting` counts its cards in Review, None before it is known.
    `personal` says what is kept of personal data in what the person writes; `writes` keeps verdicts and flag changes in the
    order in which their keys were pressed.
    """

    database: Database
    who: str
    relay_url: str
    spool_folder: Path
    is_read_only: bool = False
    personal: PersonalPolicy = field(default_factory=PersonalPolicy)
    task: str = ""
    waiting: int | None = None
    writes: asyncio.Lock = field(default_factory=asyncio.Lock)
