"""Everything that runs during a comparison: the upstream, the contestants, Potstill's store writer."""

from __future__ import annotations

import http.client
import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import text

from benchmarks.figures import Tell
from benchmarks.payloads import NO_ID, PATH
from benchmarks.processes import cores, cpu_seconds, free_port, python, running, wait_for_port
from benchmarks.proxy.certificate import write_certificate
from benchmarks.proxy.contestants import (
    NAMES,
    Peers,
    Plan,
    Ports,
    extra_headers,
    plans,
    port_of,
    potstill_config,
)
from benchmarks.proxy.traffic import body_template, headers, is_whole_answer
from capture.database import Database, open_database
from capture.settings import load_settings

_START_S = 240.0
_ANSWER_S = 30.0
_STORE_S = 90.0
_QUIET_STEP_S, _QUIET_S, _QUIET_CPU_S = 0.15, 12.0, 0.011
_WRITER_REST_S = 1.4  # the store writer empties SQLite's log after a second of rest


class Ledger:
    """Holds the store against what was asked: nothing may be missing, nothing be there twice."""

    def __init__(self, database: Database, writer_pid: int) -> None:
        self._database, self._writer_pid = database, writer_pid
        self._number = self._rows("max(number)", 0)
        self._late = 0
        """Cut exchanges that may still come."""
        self.stored = 0
        """Exchanges that were found to be there."""

    def check(self, answered: int, cut: int) -> str:
        """Waits until the store holds what is new; what is wrong with it, '' for nothing.

        `answered` exchanges must be complete. Up to `cut` more may have begun, their client gone before the end.
        """
        deadline = time.monotonic() + _STORE_S
        while self._complete() < answered and time.monotonic() < deadline:
            time.sleep(0.1)
        wait_until_quiet(self._writer_pid, _WRITER_REST_S)
        complete, rows, last = self._complete(), self._rows("count(*)", self._number), self._rows("max(number)", self._number)
        self._number = max(last, self._number)
        self.stored += complete
        if complete < answered:
            return f"{answered:,} exchanges were answered, but the store holds {complete:,} complete ones"
        self._late += cut + answered - rows
        if self._late < 0:
            return f"{answered:,} exchanges were answered and at most {cut} cut, but the store holds {rows:,}"
        return ""

    def _complete(self) -> int:
        return self._rows("sum(state = 'complete')", self._number)

    def _rows(self, what: str, beyond: int) -> int:
        with self._database.read() as connection:
            found = connection.execute(text(f"SELECT {what} FROM exchanges WHERE number > {beyond}"))  # noqa: S608 - ours alone
            return found.scalar() or 0


@dataclass(frozen=True, slots=True)
class House:
    """All that runs. `pids` are the contestants'; `missing` says which there are not, and why."""

    folder: Path
    config: Path
    ports: Ports
    plans: Mapping[str, Plan]
    pids: Mapping[str, int]
    missing: Mapping[str, str]
    writer_pid: int
    ledger: Ledger
    load_core: int
    contestant_core: int

    @property
    def names(self) -> list[str]:
        """The contestants that run."""
        return list(self.pids)

    def port(self, name: str, scenario: str) -> int:
        """Where `name`, or the upstream itself by its name `direct`, takes requests of `scenario`."""
        return port_of(name, scenario, self.ports)

    def extra(self, name: str, scenario: str) -> dict[str, str]:
        """Headers that `name` needs."""
        return extra_headers(name, scenario, self.ports)


@contextmanager
def open_house(folder: Path, wanted: Sequence[str], peers: Peers, tell: Tell, spool_max_mib: int = 0) -> Iterator[House]:
    """Starts the upstream, the store writer and those contestants of `wanted` that are installed; stops them at the end.

    Contestants have a core for themselves where there are two. Load, upstream and store writer share the other, the store
    writer only while nobody else wants it, so that every contestant meets the same load.
    """
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    load_core, contestant_core = cores()
    certificate, key = write_certificate(folder)
    ports = Ports(free_port(), free_port(), free_port(), {name: free_port() for name in NAMES})
    config = folder / "potstill.toml"
    config.write_text(potstill_config(ports, certificate, spool_max_mib))
    with ExitStack() as stack:
        upstream = python("benchmarks.proxy.upstream", str(ports.upstream), str(ports.upstream_tls), str(certificate), str(key))
        log = folder / "upstream.log"
        wait_for_port(stack.enter_context(running(upstream, {load_core}, log)), ports.upstream, log)
        database = open_database(load_settings(config, environ={}).database_url)
        stack.callback(database.close)
        command = python("capture.writer", "--config", str(config))
        writer = stack.enter_context(running(command, {load_core}, folder / "writer.log", is_idle=True))
        made = {name: plan for name, plan in plans(peers, folder, config, certificate, ports).items() if name in wanted}
        started = {}
        for name, plan in made.items():
            child = running(plan.command, {contestant_core}, folder / f"{name}.log", added=plan.environment)
            started[name] = stack.enter_context(child)
        for name, process in started.items():
            wait_for_port(process, ports.contestants[name], folder / f"{name}.log", _START_S)
            tell(f"{name} listens")
        missing = {name: why for name, why in peers.missing().items() if name in wanted}
        pids = {name: process.pid for name, process in started.items()}
        ledger = Ledger(database, writer.pid)
        yield House(folder, config, ports, made, pids, missing, writer.pid, ledger, load_core, contestant_core)


def ask_once(house: House, name: str, scenario: str, number: int) -> str:
    """Asks one thing; what is wrong with the answer, '' for nothing."""
    connection = http.client.HTTPConnection("127.0.0.1", house.port(name, scenario), timeout=_ANSWER_S)
    try:
        body = body_template(scenario).replace(NO_ID, b"%012d" % number)
        connection.request("POST", PATH, body, headers(scenario, number) | house.extra(name, scenario))
        response = connection.getresponse()
        answer = response.read()
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()
    return "" if response.status == 200 and is_whole_answer(scenario, answer) else f"HTTP {response.status}: {answer[-200:]!r}"


def log_end(house: House, name: str) -> str:
    """The last that `name` has said, for whoever wants to know why it failed."""
    return f"its log ends with {(house.folder / f'{name}.log').read_text(errors='replace')[-300:]!r}"


def wait_until_quiet(pid: int, at_least_s: float = 0.0) -> None:
    """Returns once `pid` and its descendants have next to nothing left to do, and not before `at_least_s`."""
    began = time.monotonic()
    while (passed := time.monotonic() - began) < _QUIET_S:
        before = cpu_seconds(pid)
        time.sleep(_QUIET_STEP_S)
        if cpu_seconds(pid) - before <= _QUIET_CPU_S and passed >= at_least_s:
            return
