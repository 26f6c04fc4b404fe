"""A store filled through spool and store writer at a frozen time, apps on it, and screens as rows of text."""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.worker import WorkerCancelled

from capture import clock, ids
from capture.database import Database, open_database
from capture.pricing import PriceSettings, load_price_table
from capture.records import Begin, End, Head
from capture.settings import Settings
from capture.spool import SpoolWriter
from capture.writer import StoreWriter
from curate.datasets import build
from curate.settings import CurateSettings
from proxy.tickets import make_tickets
from serve import flag_store, release_store
from tui.app import PotstillApp, make_desk

SNAPSHOTS = Path(__file__).parent / "snapshots"
START_US = 1_767_268_800_000_000  # 2026-01-01 12:00:00 UTC


@dataclass
class FrozenClock:
    """The time that everything sees; it moves only by hand."""

    us: int = START_US

    def move(self, seconds: float) -> None:
        self.us += round(seconds * 1_000_000)


@dataclass
class Sent:
    """One exchange to capture; the answer may be str or raw bytes of a whole response body."""

    question: str = "Card charged twice, please refund."
    answer: str | bytes = "billing"
    task: str = "triage"
    model: str = "gpt-5-mini"
    status: int = 200
    state: str = "complete"
    error: str = ""
    latency_us: int = 1_200_000
    variant: str = ""
    release_id: str = ""
    flag_revision: int = 0
    unit: str = ""
    upstream: str = "openai"
    fallback: str = ""
    system: str = "You sort incoming mail into one of: billing, urgent, other."
    begin: dict[str, Any] = field(default_factory=dict)


class Captured:
    """A real store behind a real spool."""

    def __init__(self, settings: Settings, frozen: FrozenClock) -> None:
        self.settings, self.frozen = settings, frozen
        self.database: Database = open_database(settings.database_url)
        self.spool_folder = settings.data_folder / "spool"
        self.spool = SpoolWriter(self.spool_folder)
        self.writer = StoreWriter(self.database, self.spool_folder, load_price_table(PriceSettings()))
        self.number = 0

    def send(self, *exchanges: dict[str, Any], every_s: float = 1.0) -> None:
        """Captures exchanges (fields of `Sent`), one each `every_s` seconds, and stores them."""
        for fields in exchanges:
            self._spool(Sent(**fields))
            self.frozen.move(every_s)
        self.writer.drain()

    def _spool(self, sent: Sent) -> None:
        self.number += 1
        raw = bytearray((self.frozen.us // 1000).to_bytes(6, "big") + self.number.to_bytes(10, "big"))
        raw[6] = 0x70
        request = {
            "model": sent.model,
            "messages": [{"role": "system", "content": sent.system}, {"role": "user", "content": sent.question}],
        }
        reply = {
            "id": "x",
            "object": "chat.completion",
            "model": sent.model,
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": sent.answer}}],
            "usage": {"prompt_tokens": 120, "completion_tokens": 3, "total_tokens": 123},
        }
        body = sent.answer if isinstance(sent.answer, bytes) else json.dumps(reply).encode()
        self.spool.begin(
            bytes(raw),
            Begin(
                **{
                    "method": "POST", "path": "/v1/chat/completions", "query": "", "protocol": "openai", "task": sent.task,
                    "unit": sent.unit, "unit_source": "user" if sent.unit else "", "user_name": sent.unit, "purpose": "app",
                    "model_asked": sent.model, "variant": sent.variant, "release_id": sent.release_id,
                    "flag_revision": sent.flag_revision, "upstream": sent.upstream,
                    "request_headers": {"content-type": "application/json"}, "body": json.dumps(request).encode(),
                    **sent.begin,
                }
            ),
        )  # fmt: skip
        first = sent.latency_us // 3
        self.spool.head(
            bytes(raw),
            Head(sent.status, {"content-type": "application/json"}, sent.upstream, sent.model, sent.fallback, first),
        )
        self.spool.part(bytes(raw), body)
        self.spool.end(
            bytes(raw),
            End(
                status=sent.status, state=sent.state, error_kind="engine" if sent.error else "", error_message=sent.error,
                latency_us=sent.latency_us, first_byte_us=first, overhead_us=900, request_sha256="", response_sha256="",
                upstream=sent.upstream, model_served=sent.model, fallback_reason=sent.fallback,
            ),
        )  # fmt: skip

    def tickets(self, count: int, task: str = "triage", seed: int = 7) -> list[dict[str, Any]]:
        """Fields of realistic support tickets with the teacher's answers."""
        return [
            {"question": t.user_prompt, "answer": t.gold, "system": t.system_prompt, "task": task, "unit": t.user}
            for t in make_tickets(seed, count, task)
        ]

    def build(self, task: str = "triage") -> Any:
        """A dataset version of what was captured."""
        return build(self.database, self.settings.data_folder, task, CurateSettings())

    def release(self, task: str = "triage", state: str = release_store.READY) -> Any:
        """A release as serving leaves it in the store."""
        made = release_store.add_release(self.database, task, "ad_1", {})
        return release_store.settle_release(self.database, made, state, {}, 100, 99)

    def roll_out(self, share_bp: int, units: int = 60, task: str = "triage") -> Any:
        """A share in force, and traffic of `units` users under it, two exchanges each."""
        made = flag_store.set_share(self.database, task, share_bp, unit="user", who="ana", why="first week")
        for number in range(units * 2):
            unit = number % units
            is_candidate = (unit * 37) % 100 < share_bp / 100
            fields = {
                "task": task, "unit": f"u{unit}", "flag_revision": made.revision, "question": f"Ticket {unit % 12}",
                "answer": "billing" if unit % 12 < 11 or not is_candidate else "urgent",
            }  # fmt: skip
            if is_candidate:
                fields |= {
                    "variant": "candidate", "model": made.engine_model, "upstream": "engine", "release_id": made.release_id,
                    "latency_us": 280_000 + 1_000 * number,
                }  # fmt: skip
            else:
                fields |= {"variant": "baseline", "latency_us": 1_100_000 + 9_000 * number}
            self._spool(Sent(**fields))
            self.frozen.move(0.5)
        self.writer.drain()
        return made

    def close(self) -> None:
        self.spool.close()
        self.writer.close()
        self.database.close()


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> Iterator[FrozenClock]:
    """Noon on 1 January 2026, in UTC, for good."""
    turned = FrozenClock()
    monkeypatch.setattr(clock, "now_us", lambda: turned.us)
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TEXTUAL_ANIMATIONS", "none")
    time.tzset()
    yield turned
    os.environ.pop("TZ", None)
    time.tzset()


@pytest.fixture
def captured(settings: Settings, frozen: FrozenClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Captured]:
    """An empty store with a spool in front of it."""
    numbers = iter(range(1, 1_000_000))

    def new_raw_id() -> bytes:
        raw = bytearray((frozen.us // 1000).to_bytes(6, "big") + next(numbers).to_bytes(10, "big"))
        raw[6] = 0x70
        return bytes(raw)

    monkeypatch.setattr(ids, "new_raw_id", new_raw_id)
    made = Captured(settings, frozen)
    yield made
    made.close()


Opener = Callable[..., AbstractAsyncContextManager["Seat"]]


@dataclass
class Seat:
    """Somebody in front of a running app."""

    app: PotstillApp
    pilot: Pilot[None]

    async def press(self, *keys: str) -> None:
        """Presses keys one by one and waits until everything they started is done."""
        for key in keys:
            await self.pilot.press(key)
            await self.settle()

    async def settle(self) -> None:
        """Waits until no worker runs, none that another one started either, and everything is drawn."""
        quiet = 0
        while quiet < 2:
            await self.pilot.pause()
            running = [worker for worker in self.app.workers if not worker.is_finished]
            quiet = 0 if running else quiet + 1
            for worker in running:
                with suppress(WorkerCancelled):
                    await worker.wait()

    async def poll(self) -> None:
        """Lets the app see what has changed in the store."""
        await self.settle()
        self.app.poll()
        await self.settle()

    def rows(self) -> list[str]:
        """The screen as text, one string per line, each exactly as wide as the screen."""
        return [strip.text for strip in self.app.screen._compositor.render_strips()]

    @property
    def text(self) -> str:
        """The screen as one text."""
        return "\n".join(self.rows())

    def told(self) -> list[str]:
        """Toasts so far, oldest first."""
        return [notification.message for notification in self.app._notifications]


@pytest.fixture
def seat(captured: Captured) -> Opener:
    """`async with seat(size=(80, 24)) as someone:` opens the app on the captured store."""

    @asynccontextmanager
    async def open_app(
        size: tuple[int, int] = (80, 24), *, read_only: bool = False, keys: Sequence[str] = ()
    ) -> AsyncIterator[Seat]:
        app = PotstillApp(make_desk(captured.settings, captured.database, read_only=read_only))
        app.desk.who = "ana"
        async with app.run_test(size=size) as pilot:
            someone = Seat(app, pilot)
            await someone.settle()
            await someone.press(*keys)
            yield someone

    return open_app


@pytest.fixture
def snapshot(request: pytest.FixtureRequest) -> Callable[[Seat], None]:
    """Compares the screen with `snapshots/<test>.txt`; UPDATE_SNAPSHOTS=1 writes it instead."""

    def compare(someone: Seat) -> None:
        shown = "\n".join(row.rstrip() for row in someone.rows()) + "\n"
        path = SNAPSHOTS / f"{request.node.name.removeprefix('test_')}.txt"
        width = someone.app.size.width
        assert all(len_cells(row) == width for row in someone.rows())
        if os.environ.get("UPDATE_SNAPSHOTS") == "1":
            SNAPSHOTS.mkdir(exist_ok=True)
            path.write_text(shown, "utf-8")
        assert path.is_file(), f"{path.name} is missing: look at the screen, then run with UPDATE_SNAPSHOTS=1"
        assert shown == path.read_text("utf-8")

    return compare


def len_cells(row: str) -> int:
    """Cells of a row."""
    from rich.cells import cell_len

    return cell_len(row)
