"""Everything under `potstill up`: relay workers, the store writer, whatever else the settings ask for, the admin listener.

None of them can take the relay down with it, and none outlives this process. SIGTERM and SIGINT drain: workers finish
their streams, then the store writer empties the spool (what it cannot store just then is stored at the next start), then
everything has ended; a second signal cuts streams. SIGHUP reads the configuration again, and no stream notices.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from capture.database import open_database
from capture.errors import NewerStoreError, PotstillError, StoreError
from capture.logs import LogSettings
from capture.settings import Settings
from proxy import admin
from proxy.admin_token import read_token
from proxy.children import RUNNING, Child
from proxy.house import House, address, wanted_others
from proxy.listen import claim_port, listen_alone
from proxy.logs import rotate
from proxy.reload import TRANSLATION, accepted, compare
from proxy.settings import RelaySettings, read_upstreams
from serve.settings import EngineSettings

_WRITER_DRAIN_S = 30.0
_AFTER_DRAIN_S = 12.0
_ROTATION_S = 5.0
_SAVED = ("run", "settings.json")

Reread = Callable[[], Settings]


@dataclass(slots=True)
class _Front:
    """What the admin listener asks of every request, as it is now."""

    token: str
    hosts: tuple[str, ...]


def run(
    settings: Settings,
    with_engine: bool,
    reread: Reread,
    on_ready: Callable[[str, str], None] | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> None:
    """Runs the house until a signal ends it; to be called from the main thread.

    `reread` reads the configuration for a reload and raises SettingsError for one that will not do. `on_ready` is called
    once, when the relay takes requests, with the addresses of relay and admin listener; `on_notice` hears one sentence
    whenever a process ended by itself and will be started again, or a reload is over. PortTakenError, SettingsError,
    NewerStoreError, or PotstillError with the reason when a worker does not come up. A store that cannot be reached is
    no error.
    """
    asyncio.run(_run(settings, with_engine, reread, on_ready or (lambda *_: None), on_notice or (lambda _notice: None)))


async def _run(
    settings: Settings,
    with_engine: bool,
    reread: Reread,
    on_ready: Callable[[str, str], None],
    on_notice: Callable[[str], None],
) -> None:
    relay = settings.section("relay", RelaySettings)
    read_upstreams(settings)
    front = _Front(read_token(settings.folder, relay.admin_token_file), relay.hosts)
    has_engine = with_engine and not settings.section("engine", EngineSettings).is_external
    with (
        claim_port(relay.host, relay.port, "port") as claim,
        listen_alone(relay.host, relay.admin_port, "admin_port") as admin_socket,
    ):
        store_problem = await asyncio.to_thread(_prepare_store, settings)
        house = _make_house(settings, claim.getsockname()[1], has_engine, on_notice)
        house.store_problem = store_problem
        reloader = _Reloader(house, front, has_engine, reread)
        stop, cut = asyncio.Event(), asyncio.Event()
        _listen_to_signals(stop, cut, reloader)
        plane = admin.House(house.look, lambda: _metrics(house), reloader.reload, lambda: front.token, lambda: front.hosts)
        runner = await admin.start_admin(plane, admin_socket)
        rotating = asyncio.ensure_future(_rotate_logs(house))
        try:
            for child in house.children:
                child.start()
            if await _wait_for_workers(house, stop):
                on_ready(house.address, address(relay.host, admin_socket.getsockname()[1]))
                await stop.wait()
        finally:
            house.is_stopping = True
            rotating.cancel()
            await _stop(house, cut)
            await runner.cleanup()


def _make_house(settings: Settings, port: int, with_engine: bool, on_notice: Callable[[str], None]) -> House:
    (settings.data_folder / "logs").mkdir(mode=0o700, exist_ok=True)
    saved = settings.data_folder.joinpath(*_SAVED)
    settings.save(saved)
    house = House(settings, port, saved, on_notice)
    house.workers = [house.make_worker(number + 1) for number in range(settings.section("relay", RelaySettings).workers)]
    house.others = {name: house.make_other(name) for name in wanted_others(settings, with_engine=with_engine)}
    return house


def _listen_to_signals(stop: asyncio.Event, cut: asyncio.Event, reloader: _Reloader) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: (cut if stop.is_set() else stop).set())
    loop.add_signal_handler(signal.SIGHUP, reloader.reload_soon)


class _Reloader:
    """Takes over a changed configuration, one at a time."""

    def __init__(self, house: House, front: _Front, with_engine: bool, reread: Reread) -> None:
        self._house, self._front, self._with_engine, self._reread = house, front, with_engine, reread
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()

    def reload_soon(self) -> None:
        """For a signal: reloads, and says what it came to as a notice."""
        self._keep(asyncio.ensure_future(self._reload_and_tell()))

    async def _reload_and_tell(self) -> None:
        try:
            await self.reload()
        except PotstillError:
            return  # told already

    async def reload(self) -> admin.Reloaded:
        """Reads, checks and takes over the configuration; SettingsError, and nothing has changed, when it will not do."""
        async with self._turn:
            house = self._house
            try:
                if house.is_stopping:
                    raise PotstillError("The house is stopping.", "Start it again with `potstill up`.")
                new = await asyncio.to_thread(self._reread)
                relay = new.section("relay", RelaySettings)
                wanted = wanted_others(new, with_engine=self._with_engine)
                token = read_token(new.folder, relay.admin_token_file)
                change, kept = compare(house.settings, new), accepted(house.settings, new)
                kept.save(house.saved)
            except (PotstillError, OSError) as error:
                house.reloads["refused"] += 1
                house.on_notice(f"The configuration is not taken over, and the old one stays: {error}")
                raise error if isinstance(error, PotstillError) else PotstillError(f"It cannot be saved: {error}.") from error
            house.settings = kept
            self._front.token, self._front.hosts = token, relay.hosts
            self._tell_workers(relay.workers)
            self._tell_others(wanted, change.concerns)
            house.reloads["done"] += 1
            house.on_notice(_told(change.changed, change.fixed))
            return admin.Reloaded(change.changed, change.fixed)

    def _tell_workers(self, wanted: int) -> None:
        house = self._house
        for worker in house.workers[wanted:]:
            house.leaving.append(worker)
            self._keep(asyncio.ensure_future(self._let_go(worker)))
        del house.workers[wanted:]
        for worker in house.workers:
            self._hang_up(worker, _AFTER_DRAIN_S)
        for number in range(len(house.workers) + 1, wanted + 1):
            house.workers.append(house.make_worker(number))
            house.workers[-1].start()

    async def _let_go(self, worker: Child) -> None:
        await worker.stop(self._house.settings.section("relay", RelaySettings).drain_timeout_s + _AFTER_DRAIN_S)
        self._house.leaving.remove(worker)

    def _tell_others(self, wanted: list[str], concerns: Callable[[str], bool]) -> None:
        others = self._house.others
        for name in [name for name in others if name not in wanted]:
            self._keep(asyncio.ensure_future(others.pop(name).stop(_WRITER_DRAIN_S)))
        for name in wanted:
            if name not in others:
                others[name] = self._house.make_other(name)
                others[name].start()
            elif concerns(name) and name == TRANSLATION:
                self._hang_up(others[name], _WRITER_DRAIN_S)
            elif concerns(name):
                self._keep(asyncio.ensure_future(others[name].restart(_WRITER_DRAIN_S)))

    def _hang_up(self, child: Child, timeout_s: float) -> None:
        """Lets a child that says when it is up read its settings again."""
        if child.state == RUNNING:
            child.signal(signal.SIGHUP)
        else:  # it may be past reading its settings and not yet listen to signals
            self._keep(asyncio.ensure_future(child.restart(timeout_s)))

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _told(changed: tuple[str, ...], fixed: tuple[str, ...]) -> str:
    said = f"The configuration is taken over: {', '.join(changed) or 'nothing changed'}."
    return f"{said} These wait for the next start of `potstill up`: {', '.join(fixed)}." if fixed else said


async def _metrics(house: House) -> tuple[bytes, str]:
    seen = await house.see()
    from proxy.metrics import CONTENT_TYPE, render

    return render(seen), CONTENT_TYPE


async def _rotate_logs(house: House) -> None:
    told: set[str] = set()
    while True:
        logs = house.settings.section("logs", LogSettings)
        folder = house.settings.data_folder / "logs"
        for trouble in await asyncio.to_thread(rotate, folder, logs.max_mib * 2**20, logs.keep):
            if trouble not in told and len(told) < 100:
                told.add(trouble)
                house.on_notice(trouble)
        await asyncio.sleep(_ROTATION_S)


async def _wait_for_workers(house: House, stop: asyncio.Event) -> bool:
    """True once every worker takes requests, False when a signal came first; PotstillError when one ends before that."""
    stopping = asyncio.ensure_future(stop.wait())
    try:
        for worker in tuple(house.workers):
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


async def _stop(house: House, cut: asyncio.Event) -> None:
    workers = [*house.workers, *house.leaving]

    async def pass_on_cut() -> None:
        await cut.wait()
        for worker in workers:
            worker.signal(signal.SIGTERM)

    drain_s = house.settings.section("relay", RelaySettings).drain_timeout_s
    cutting = asyncio.ensure_future(pass_on_cut())
    await asyncio.gather(*(worker.stop(drain_s + _AFTER_DRAIN_S) for worker in workers))
    cutting.cancel()
    await asyncio.gather(*(child.stop(_WRITER_DRAIN_S) for child in house.others.values()))


def _prepare_store(settings: Settings) -> str:
    """Brings the store up to date before several processes open it at once; '' or why it cannot be reached."""
    try:
        open_database(settings.database_url).close()
    except NewerStoreError:
        raise
    except StoreError as error:
        return str(error)
    return ""
