"""What runs under `potstill up`, by what it is for, and how it does: for /status, for /metrics and for the health probes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capture import clock
from capture.settings import Settings
from capture.spool import SEGMENT_SUFFIX
from proxy.ailments import Recent, of_spool, of_store
from proxy.children import RUNNING, Child
from proxy.reload import ENGINE, TRACES, TRANSLATION, WRITER
from proxy.settings import LITELLM, RelaySettings, read_upstreams, translation_socket
from proxy.totals import Totals
from serve.engine_state import read_state

if TYPE_CHECKING:
    from proxy.metrics import Seen

_SUMS = ("requests", "fallbacks", "dropped", "sync_failures")
_ENGINE_PAUSE_S = 60.0


@dataclass(slots=True)
class House:
    """The processes and what they said. `others` are all but workers and store writer, by name."""

    settings: Settings
    port: int
    saved: Path
    """What children read in place of potstill.toml."""
    on_notice: Callable[[str], None]
    workers: list[Child] = field(default_factory=list)
    leaving: list[Child] = field(default_factory=list)
    """Workers that are no longer wanted and finish their streams."""
    others: dict[str, Child] = field(default_factory=dict)
    totals: Totals = field(default_factory=Totals)
    reloads: dict[str, int] = field(default_factory=lambda: {"done": 0, "refused": 0})
    started_us: int = field(default_factory=clock.now_us)
    is_stopping: bool = False
    store_problem: str = ""
    writer_full_us: int = 0
    restarts: dict[str, int] = field(default_factory=dict)
    """How often each ended that nobody asked to, by name, those that a reload took away among them."""
    dropped: Recent = field(default_factory=Recent)
    sync_failures: Recent = field(default_factory=Recent)

    @property
    def address(self) -> str:
        """Where apps reach the relay."""
        return address(self.settings.section("relay", RelaySettings).host, self.port)

    @property
    def children(self) -> list[Child]:
        """All that should run."""
        return [*self.workers, *self.others.values()]

    def make_worker(self, number: int) -> Child:
        """A relay worker, not started."""
        return self._child(f"relay worker {number}", "proxy.worker", "--port", str(self.port), says_when_up=True)

    def make_other(self, name: str) -> Child:
        """One of the others, not started."""
        if name == WRITER:
            return self._child(name, "capture.writer", says_when_up=True)  # before that it waits for the store
        if name == ENGINE:
            return self._child(
                name, "serve.engine_process", "--die-with-parent", has_status=False, longest_pause_s=_ENGINE_PAUSE_S
            )
        if name == TRACES:
            return self._child(name, "capture.otel_process")
        socket = str(translation_socket(self.settings))
        return self._child(name, "proxy.translation.process", "--socket", socket, says_when_up=True)

    def _child(
        self,
        name: str,
        module: str,
        *arguments: str,
        has_status: bool = True,
        says_when_up: bool = False,
        longest_pause_s: float = 30.0,
    ) -> Child:
        child = Child(
            name,
            [module, "--config", str(self.saved), *arguments],
            self.settings.data_folder / "logs" / f"{name.replace(' ', '-')}.log",
            self.settings.folder,
            has_status=has_status,
            says_when_up=says_when_up,
            longest_pause_s=longest_pause_s,
            on_end=self._has_ended,
            on_report=self._has_said,
        )
        child.restarts = self.restarts.get(name, 0)
        return child

    def _has_ended(self, child: Child) -> None:
        self.restarts[child.name] = child.restarts
        how = "did not start" if child.exit_status is None else f"ended with {child.exit_status}"
        self.on_notice(f"{child.name} {how} and is started again. {child.last_words()}".strip())

    def _has_said(self, child: Child) -> None:
        self.totals.heard(child.name, child.reported)
        now_us = clock.now_us()
        self.dropped.told(now_us, self.totals.number("dropped"))
        self.sync_failures.told(now_us, self.totals.number("sync_failures"))
        if child.name == WRITER:
            self.writer_full_us = int(child.reported.get("full_us") or 0) or self.writer_full_us

    def ailing(self) -> list[str]:
        """What does not do what it should, by name, while requests are answered all the same."""
        now_us = clock.now_us()
        writer = self.others[WRITER]
        problem = str(writer.reported.get("problem") or ("" if writer.is_up.is_set() else self.store_problem))
        return [
            *(child.name for child in self.children if child.state != RUNNING),
            *of_store(problem, self.writer_full_us or self.started_us, now_us),
            *of_spool(self.dropped.growth(now_us), self.sync_failures.growth(now_us)),
        ]

    def look(self) -> dict[str, Any]:
        """The status, as the admin listener shows it."""
        workers = [_without_counters(worker.status()) for worker in self.workers]
        engine = self.others.get(ENGINE)
        state = read_state(self.settings.data_folder) if engine is not None else None
        shown = {"serving": state.state if state else "", "message": state.message if state else ""}
        return {
            "is_ready": not self.is_stopping and any(worker.state == RUNNING for worker in self.workers),
            "is_stopping": self.is_stopping,
            "ailing": self.ailing(),
            "address": self.address,
            "uptime_s": (clock.now_us() - self.started_us) // 1_000_000,
            **{name: self.totals.number(name) for name in _SUMS},
            "in_flight": sum(int(worker.get("in_flight", 0)) for worker in workers),
            "workers": workers,
            "leaving": [child.name for child in self.leaving],
            "writer": self.others[WRITER].status(),
            "engine": None if engine is None else {**engine.status(), **shown},
            "others": [child.status() for name, child in self.others.items() if name not in (WRITER, ENGINE)],
            "reloads": self.reloads,
            "store_problem_at_start": self.store_problem,
        }

    async def see(self) -> Seen:
        """What /metrics is made of."""
        from importlib.metadata import version

        from proxy.metrics import Seen

        children = self.children
        pids = {child.name: child.pid for child in children}
        resident, spool = await asyncio.to_thread(_measure, pids, self.settings.data_folder / "spool")
        return Seen(
            now_us=clock.now_us(),
            started_us=self.started_us,
            version=version("potstill"),
            is_ready=bool(self.look()["is_ready"]),
            counters=self.totals.snapshot(),
            dropped=self.totals.number("dropped"),
            sync_failures=self.totals.number("sync_failures"),
            stored=self.totals.number("stored"),
            refused_by_store=self.totals.number("refused"),
            spans_sent=self.totals.number("spans_sent"),
            spans_refused=self.totals.number("spans_refused"),
            workers=[child.status() for child in self.workers],
            children=[child.status() for child in children],
            resident_bytes=resident,
            spool_bytes=spool,
            writer_full_us=self.writer_full_us,
            reloads=dict(self.reloads),
        )


def wanted_others(settings: Settings, *, with_engine: bool) -> list[str]:
    """Which processes besides the workers these settings ask for."""
    from capture.otel_settings import OtelSettings

    has_translation = any(upstream.protocol == LITELLM for upstream in read_upstreams(settings).values())
    has_traces = bool(settings.section("otel", OtelSettings).endpoint)
    asked = {WRITER: True, ENGINE: with_engine, TRANSLATION: has_translation, TRACES: has_traces}
    return [name for name, is_wanted in asked.items() if is_wanted]


def address(host: str, port: int) -> str:
    """`host` and `port` as an address; a host that means all of this machine's is shown as it can be reached."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def _without_counters(status: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in status.items() if name != "counters"}


def _measure(pids: dict[str, int], spool_root: Path) -> tuple[dict[str, int], int]:
    """Memory of each process, and the size of all spools; asks the file system, so not in the event loop's thread."""
    resident = {name: size for name, pid in pids.items() if (size := _resident_bytes(pid))}
    return resident, _spool_bytes(spool_root)


def _resident_bytes(pid: int) -> int:
    """Memory of a process; 0 where the system does not say."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _spool_bytes(root: Path) -> int:
    total = 0
    for segment in root.glob(f"sp_*/*{SEGMENT_SUFFIX}"):
        try:
            total += segment.stat().st_size
        except FileNotFoundError:
            continue  # the store writer has just taken it away
    return total
