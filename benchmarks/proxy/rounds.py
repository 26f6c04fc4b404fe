"""What is measured round by round, every contestant in turn: CPU time under load, and the delay that each adds."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median, quantiles

from benchmarks.figures import Tell
from benchmarks.processes import busy_seconds, cpu_seconds, resident_mb
from benchmarks.proxy.contestants import DIRECT, LITELLM, PORTKEY, POTSTILL, WRITER
from benchmarks.proxy.house import House, ask_once, log_end, wait_until_quiet
from benchmarks.proxy.open_loop import ask_at_times
from benchmarks.proxy.outcome import FIRST_BYTE, LATENCY, SHOWN, Findings
from benchmarks.proxy.traffic import BIG, JSON, MANY, PACED, SLOW, STREAMED, request
from benchmarks.proxy.wrk import saturate

_STRIDE = 10_000_000
_STREAMS_PER_S = 10.0
_LONGER_FIRST_BYTE = 2


class Comparison:
    """A running comparison. `numbers` give each turn its own, so that no two requests of a run are alike."""

    def __init__(self, house: House, findings: Findings, seconds: int, tell: Tell) -> None:
        self.house, self.findings, self.seconds, self.tell = house, findings, seconds, tell
        self.numbers = itertools.count(_STRIDE, _STRIDE)
        self._unfit: set[tuple[str, str]] = set()

    def warm_up(self, scenarios: list[str]) -> None:
        """Every path of every contestant once, and a second of load; one that does not answer as it must is left out there."""
        every = tuple(dict.fromkeys((JSON, PACED, SLOW, *scenarios)))
        for scenario in every:
            for name in self.in_turns(0, scenario):
                if problem := ask_once(self.house, name, scenario, next(self.numbers)):
                    self._unfit.add((name, scenario))
                    words = f"{name} does not answer {scenario}: {problem}"
                    (self.findings.problems if name == POTSTILL else self.findings.notes).append(words)
                    self.tell(words)
        for name in self.house.names:
            port, extra = self.house.port(name, JSON), self.house.extra(name, JSON)
            load = saturate(self.house.folder, port, JSON, 1, 8, next(self.numbers), extra)
            if name == POTSTILL:
                self.hold_against_store(len(every) + load.requests, 8)

    def in_turns(self, turn: int, scenario: str) -> list[str]:
        """The contestants that answer `scenario`, in an order that moves on with `turn`."""
        left_out = (LITELLM, PORTKEY) if scenario == MANY else ()  # who the users are is nothing to them
        names = [name for name in self.house.names if (name, scenario) not in self._unfit and name not in left_out]
        first = turn % len(names) if names else 0
        return names[first:] + names[:first]

    def spend(self, turn: int, scenario: str) -> None:
        """One turn of every contestant under load: CPU time for each request."""
        for name in self.in_turns(turn, scenario):
            plan, pid = self.house.plans[name], self.house.pids[name]
            seconds = max(1, round(self.seconds * _share(scenario, plan.longer)))
            connections = plan.streams if scenario in STREAMED else plan.connections
            port, extra = self.house.port(name, scenario), self.house.extra(name, scenario)
            writer_before, before = cpu_seconds(self.house.writer_pid), cpu_seconds(pid)
            with self.watched():
                load = saturate(self.house.folder, port, scenario, seconds, connections, next(self.numbers), extra)
                wait_until_quiet(pid)
            spent = cpu_seconds(pid) - before
            if load.failed or not load.requests:
                words = (
                    f"{name}, {scenario}: {load.failed} failed ({load.how}), {load.requests} did not; {log_end(self.house, name)}"
                )
                (self.findings.problems if name == POTSTILL else self.findings.notes).append(words)
            if not load.requests:
                continue
            cpu_us, per_s = spent / load.requests * 1e6, load.requests / load.seconds
            self.findings.cpu_us[scenario][name].append(cpu_us)
            self.findings.per_s[scenario][name].append(per_s)
            self.tell(f"{scenario}, {name}: {cpu_us:.1f} us CPU, {per_s:,.0f} a second")
            if name == POTSTILL:
                self.hold_against_store(load.requests, connections)
                written = (cpu_seconds(self.house.writer_pid) - writer_before) / load.requests * 1e6
                self.findings.cpu_us[scenario][WRITER].append(written)
                self.tell(f"{scenario}, {WRITER}: {written:.1f} us CPU")

    def delay(self, turn: int, kind: str) -> None:
        """One turn of every contestant at a low rate: what it adds to the whole answer, or to a stream's first byte."""
        scenario = JSON if kind == LATENCY else PACED
        names = self.in_turns(turn, scenario)
        rates = {name: self.house.plans[name].rate if kind == LATENCY else _STREAMS_PER_S for name in names}
        direct = {rate: self._quantiles(DIRECT, kind, scenario, rate, turn) for rate in sorted(set(rates.values()))}
        for name in names:
            found, base = self._quantiles(name, kind, scenario, rates[name], turn), direct[rates[name]]
            if found is None or base is None:
                continue
            self.findings.added_ms[kind][name].append(found[0] - base[0])
            self.findings.added_p99_ms[kind][name].append(found[1] - base[1])
            self.tell(f"{kind}, {name}: {found[0] - base[0]:+.2f} ms at p50, {found[1] - base[1]:+.2f} ms at p99")
        if (most := direct.get(max(direct))) is not None:
            self.findings.added_ms[kind][DIRECT].append(most[0])

    def hold_against_store(self, answered: int, cut: int) -> None:
        """Waits until the store has what was answered; what it lacks is a problem."""
        if problem := self.house.ledger.check(answered, cut):
            self.findings.problems.append(problem)
            self.tell(problem)

    def weigh(self) -> None:
        """Takes the memory of every contestant, and of the store writer."""
        pids = {**self.house.pids, WRITER: self.house.writer_pid}
        self.findings.rss_mb = {name: resident_mb(pids[name]) for name in SHOWN if name in pids}

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Notes how many cores others kept busy meanwhile."""
        began, busy, own = time.monotonic(), busy_seconds(), cpu_seconds(os.getpid())
        yield
        passed = time.monotonic() - began
        foreign = (busy_seconds() - busy) - (cpu_seconds(os.getpid()) - own)
        self.findings.foreign_cores.append(max(0.0, foreign) / passed)

    def _quantiles(self, name: str, kind: str, scenario: str, rate: float, turn: int) -> tuple[float, float] | None:
        """p50 and p99 in milliseconds, None when too little was answered."""
        house, first = self.house, next(self.numbers)
        count = int(rate * self.seconds * (_LONGER_FIRST_BYTE if kind == FIRST_BYTE else 1))
        port, extra = house.port(name, scenario), house.extra(name, scenario)
        requests = [request(port, scenario, first + number, extra) for number in range(count)]
        with self.watched():
            delays = ask_at_times(port, requests, rate, turn)
        if name == POTSTILL:
            self.hold_against_store(len(delays.whole_ms), delays.failed)
        if delays.failed:
            words = f"{name}, {kind}: {delays.failed} of {count} requests failed"
            (self.findings.problems if name == POTSTILL else self.findings.notes).append(words)
        values = delays.whole_ms if kind == LATENCY else delays.first_ms
        return (median(values), quantiles(values, n=100, method="inclusive")[98]) if len(values) > 1 else None


def _share(scenario: str, longer: float) -> float:
    """Of the usual time: paced streams are few, and large prompts give the store writer much to do afterwards."""
    return max(2.0, longer) if scenario == PACED else longer / 2 if scenario == BIG else longer
