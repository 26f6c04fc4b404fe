"""Everything under `potstill up`: relay workers, the store writer, the engine if asked for, the admin listener.

None of them can take the relay down with it, and none outlives this process. SIGTERM, SIGINT and SIGHUP drain: workers
finish their streams, then the store writer empties the spool, then everything has ended; a second signal cuts streams.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from capture import clock
from capture.database import open_database
from capture.errors import NewerStoreError, PotstillError, StoreError
from capture.settings import Settings
from proxy.admin import start_admin
from proxy.children import RUNNING, Child
from proxy.listen import claim_port, listen_alone
from proxy.settings import RelaySettings, read_upstreams
from serve.engine_state import read_state
from serve.settings import EngineSettings

_WRITER_DRAIN_S = 30.0
_ENGINE_STOP_S = 30.0
_AFTER_DRAIN_S = 12.0
_ENGINE_PAUSE_S = 60.0


@dataclass(slots=True)
class _House:
    """What runs: children by what they are for."""

    workers: list[Child]
    writer: Child
    engine: Child | None
    address: str
    started_us: int
    settings: Settings
    is_stopping: bool = False
    store_problem: str = ""

    @property
    def children(self) -> list[Child]:
        return [*self.workers, self.writer, *([self.engine] if self.engine is not None else [])]

    def look(self) -> dict[str, Any]:
        """The status, as the admin listener shows it."""
        workers = [worker.status() for worker in self.workers]
        counters = ("requests", "in_flight", "fallbacks", "dropped", "sync_failures")
        engine = read_state(self.settings.data_folder) if self.engine is not None else None
        return {
            "is_ready": not self.is_stopping and any(worker.state == RUNNING for worker in self.workers),
            "is_stopping": self.is_stopping,
            "ailing": [child.name for child in self.children if child.state != RUNNING],
            "address": self.address,
            "uptime_s": (clock.now_us() - self.started_us) // 1_000_000,
            **{name: sum(int(worker.get(name, 0)) for worker in workers) for name in counters},
            "workers": workers,
            "writer": self.writer.status(),
            "engine": None
            if self.engine is None
            else {**self.engine.status(), "serving": engine.state if engine else "", "message": engine.message if engine else ""},
            "store_problem_at_start": self.store_problem,
        }


def run(
    settings: Settings,
    with_engine: bool,
    on_ready: Callable[[], None] | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> None:
    """Runs the house until a signal ends it; to be called from the main thread.

    `on_ready` is called once, when the relay takes requests; `on_notice` hears one sentence whenever a process ended by
    itself and will be started again. PortTakenError, SettingsError, NewerStoreError, or PotstillError with the reason
    when a worker does not come up. A store that cannot be reached is no error.
    """
    asyncio.run(_run(settings, with_engine, on_ready or (lambda: None), on_notice or (lambda _notice: None)))


async def _run(settings: Settings, with_engine: bool, on_ready: Callable[[], None], on_notice: Callable[[str], None]) -> None:
    relay = settings.section("relay", RelaySettings)
    read_upstreams(settings)
    engine = with_engine and not settings.section("engine", EngineSettings).is_external
    with (
        claim_port(relay.host, relay.port, "port") as claim,
        listen_alone(relay.host, relay.admin_port, "admin_port") as admin_socket,
    ):
        store_problem = await asyncio.to_thread(_prepare_store, settings)
        stop, cut = asyncio.Event(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, lambda: (cut if stop.is_set() else stop).set())
        port = claim.getsockname()[1]
        house = _make_house(settings, relay, port, engine, on_notice)
        house.store_problem = store_problem
        admin = await start_admin(house.look, admin_socket)
        try:
            for child in house.children:
                child.start()
            if await _wait_for_workers(house, stop):
                on_ready()
                await stop.wait()
        finally:
            house.is_stopping = True
            await _stop(house, relay, cut)
            await admin.cleanup()


def _make_house(settings: Settings, relay: RelaySettings, port: int, engine: bool, on_notice: Callable[[str], None]) -> _House:
    logs = settings.data_folder / "logs"
    logs.mkdir(mode=0o700, exist_ok=True)
    config = ["--config", str(settings.path)] if settings.path is not None else []

    def on_end(child: Child) -> None:
        how = "did not start" if child.exit_status is None else f"ended with {child.exit_status}"
        on_notice(f"{child.name} {how} and is started again. {child.last_words()}".strip())

    def child(name: str, module: str, *arguments: str, has_status: bool = False, longest_pause_s: float = 30.0) -> Child:
        return Child(
            name,
            [module, *config, *arguments],
            logs / f"{name.replace(' ', '-')}.log",
            settings.folder,
            has_status=has_status,
            longest_pause_s=longest_pause_s,
            on_end=on_end,
        )

    return _House(
        workers=[
            child(f"relay worker {number}", "proxy.worker", "--port", str(port), has_status=True)
            for number in range(1, relay.workers + 1)
        ],
        writer=child("store writer", "capture.writer"),
        engine=child("engine", "serve.engine_process", "--die-with-parent", longest_pause_s=_ENGINE_PAUSE_S) if engine else None,
        address=f"http://{relay.host}:{port}",
        started_us=clock.now_us(),
        settings=settings,
    )


async def _wait_for_workers(house: _House, stop: asyncio.Event) -> bool:
    """True once every worker takes requests, False when a signal came first; PotstillError when one ends before that."""
    stopping = asyncio.ensure_future(stop.wait())
    try:
        for worker in house.workers:
            up = asyncio.ensure_future(worker.is_up.wait())
            while not up.done():
                await asyncio.wait({up, stopping}, timeout=0.1, return_when=asyncio.FIRST_COMPLETED)
                if stopping.done():
                    up.cancel()
                    return False
                if worker.restarts and not up.done():
                    up.cancel()
                    raise PotstillError(f"{worker.name} does not start: {worker.last_words()}", f"See {worker.log}.")
    finally:
        stopping.cancel()
    return True


async def _stop(house: _House, relay: RelaySettings, cut: asyncio.Event) -> None:
    async def pass_on_cut() -> None:
        await cut.wait()
        for worker in house.workers:
            worker.signal(signal.SIGTERM)

    cutting = asyncio.ensure_future(pass_on_cut())
    await asyncio.gather(*(worker.stop(relay.drain_timeout_s + _AFTER_DRAIN_S) for worker in house.workers))
    cutting.cancel()
    last = [house.writer.stop(_WRITER_DRAIN_S)]
    if house.engine is not None:
        last.append(house.engine.stop(_ENGINE_STOP_S))
    await asyncio.gather(*last)


def _prepare_store(settings: Settings) -> str:
    """Brings the store up to date before several processes open it at once; '' or why it cannot be reached."""
    try:
        open_database(settings.database_url).close()
    except NewerStoreError:
        raise
    except StoreError as error:
        return str(error)
    return ""
