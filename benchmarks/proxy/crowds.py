"""Many connections at once: streams side by side, ten thousand at rest, and streams that their clients leave."""

from __future__ import annotations

import asyncio
import json
import resource
import time
import urllib.request
from collections.abc import Coroutine, Sequence
from statistics import median, quantiles
from typing import Any, TypeVar

import uvloop

from benchmarks.processes import cpu_seconds, resident_mb
from benchmarks.proxy.client import Answered, Client, connect
from benchmarks.proxy.contestants import DIRECT, NGINX, POTSTILL
from benchmarks.proxy.house import House, wait_until_quiet
from benchmarks.proxy.outcome import Table
from benchmarks.proxy.rounds import Comparison
from benchmarks.proxy.traffic import EVENTS, JSON, PACE_S, SLOW, is_whole_answer, request

_AT_ONCE = (10, 100, 500)
_AT_REST, _SPARE_FILES, _REST_S, _PROBES, _OPENING = 10_000, 1_500, 5.0, 200, 100
Given = TypeVar("Given")
_LEAVERS, _MOST_UNSEEN, _SOON_MS, _GIVEN_UP_S = 30, 5, 250.0, 1.2


def streams(comparison: Comparison, _requests: int) -> Table:
    """10, 100 and 500 streams at once, each 50 events 20 ms apart; whoever has its answer asks again."""
    house, rows = comparison.house, []
    for count in _AT_ONCE:
        base = 0.0
        for name in (DIRECT, *_quick(comparison, SLOW)):
            pid = house.pids.get(name)
            before = cpu_seconds(pid) if pid else 0.0
            with comparison.watched():
                answers, cut = _run(_crowd(house, name, count, comparison.seconds * 2, next(comparison.numbers)))
                if pid:
                    wait_until_quiet(pid)
            first = [each.first_ms for each in answers]
            p50, p99 = median(first), quantiles(first, n=100, method="inclusive")[98]
            if name == DIRECT:
                base = p50
            broken = sum(each.status != 200 or not is_whole_answer(SLOW, each.body) for each in answers)
            spent = (cpu_seconds(pid) - before) / (len(answers) * EVENTS[SLOW]) * 1e6 if pid else None
            rows.append(
                {
                    "at once": count,
                    "": name,
                    "streams": len(answers),
                    "cut or broken": cut + broken,
                    "us CPU / event": spent if spent is not None else "",
                    "first byte p50, ms": p50,
                    "added": p50 - base,
                    "first byte p99, ms": p99,
                    "memory, MB": resident_mb(pid) if pid else "",
                }
            )
            if name == POTSTILL:
                comparison.hold_against_store(len(answers), cut)
                if cut + broken:
                    comparison.findings.problems.append(f"{cut + broken} of {len(answers) + cut} streams, {count} at once, broke")
            comparison.tell(f"{count} streams, {name}: {len(answers)}, first byte {p50:.1f} ms, {cut + broken} broken")
    title = f"Streams at once, {EVENTS[SLOW]} events {PACE_S[SLOW] * 1e3:.0f} ms apart"
    return Table("streams", title, rows)


def idle(comparison: Comparison, _requests: int) -> Table:
    """Ten thousand connections that have asked once and then rest."""
    rows = [_run(_rest(comparison, name)) for name in _quick(comparison, JSON)]
    return Table("idle", "Connections at rest, each having asked once", rows)


def cancel(comparison: Comparison, _requests: int) -> Table:
    """Clients that leave a stream after its first byte: how long until the upstream sees its connection closed.

    Whoever has not passed on five has no more of them.
    """
    house, rows = comparison.house, []
    for name in comparison.in_turns(0, SLOW):
        left, after_ms = _run(_leave(house, name, next(comparison.numbers)))
        if name == POTSTILL:
            comparison.hold_against_store(0, left)
            if (late := left - sum(each <= _SOON_MS for each in after_ms)) > 0:
                comparison.findings.problems.append(f"{late} of {left} clients left a stream, unnoticed for {_SOON_MS:.0f} ms")
        rows.append(
            {
                "": name,
                "streams": left,
                "reached the upstream": len(after_ms),
                "within 250 ms": sum(each <= _SOON_MS for each in after_ms),
                "p50, ms": median(after_ms) if after_ms else "",
                "longest, ms": max(after_ms) if after_ms else "",
            }
        )
        comparison.tell(f"cancel, {name}: {len(after_ms)} of {left}, at most {max(after_ms, default=0):.1f} ms")
    return Table("cancel", "Clients that leave a stream, until the upstream knows", rows)


def _quick(comparison: Comparison, scenario: str) -> list[str]:
    """Those that can serve hundreds of clients at once on one core."""
    return [name for name in comparison.in_turns(0, scenario) if name in (POTSTILL, NGINX)]


async def _crowd(house: House, name: str, count: int, seconds: float, first: int) -> tuple[list[Answered], int]:
    """What `count` clients were answered in `seconds`, each asking again and again, and how many answers were cut."""
    port, extra, cut = house.port(name, SLOW), house.extra(name, SLOW), 0
    answers: list[Answered] = []
    clients = [await connect(port) for _ in range(count)]
    loop = asyncio.get_running_loop()
    ends = loop.time() + seconds
    spread_s = EVENTS[SLOW] * PACE_S[SLOW] / count

    async def ask_again(number: int, client: Client) -> None:
        nonlocal cut
        await asyncio.sleep(number * spread_s)
        while loop.time() < ends:
            try:
                answers.append(await client.ask(request(port, SLOW, first + len(answers) * count + number, extra)))
            except ConnectionError:
                cut += 1
                return

    await asyncio.gather(*(ask_again(number, client) for number, client in enumerate(clients)))
    for client in clients:
        client.close()
    return answers, cut


async def _rest(comparison: Comparison, name: str) -> dict[str, object]:
    house, pid = comparison.house, comparison.house.pids[name]
    port, extra, first = house.port(name, JSON), house.extra(name, JSON), next(comparison.numbers)
    numbers = iter(range(first, first + 10_000_000))

    async def probe(clients: Sequence[Client]) -> float:
        found = []
        for number in range(_PROBES):
            found.append((await clients[number * 37 % len(clients)].ask(request(port, JSON, next(numbers), extra))).whole_ms)
            await asyncio.sleep(0.005)
        return median(found)

    async def open_one() -> Client:
        client = await connect(port)
        await client.ask(request(port, JSON, next(numbers), extra))
        return client

    few = [await open_one() for _ in range(10)]
    alone_ms, before_mb = await probe(few), resident_mb(pid)
    clients: list[Client] = []
    for _ in range(0, min(_AT_REST, _most_files() - _SPARE_FILES), _OPENING):
        clients += await asyncio.gather(*(open_one() for _ in range(_OPENING)))
    await asyncio.to_thread(wait_until_quiet, pid)
    after_mb, before = resident_mb(pid), cpu_seconds(pid)
    await asyncio.sleep(_REST_S)
    resting = (cpu_seconds(pid) - before) / _REST_S
    crowded_ms = await probe(clients)
    lost = sum(client.is_lost for client in clients)
    for client in (*few, *clients):
        client.close()
    if name == POTSTILL:
        comparison.hold_against_store(next(numbers) - first, 0)
        if lost:
            comparison.findings.problems.append(f"{lost} of {len(clients)} connections at rest were closed")
    comparison.tell(f"idle, {name}: {len(clients)} connections, {after_mb - before_mb:.0f} MB, {resting * 1e3:.1f} ms CPU / s")
    return {
        "": name,
        "connections": len(clients),
        "closed": lost,
        "KB each": (after_mb - before_mb) * 1e3 / len(clients),
        "ms CPU / s at rest": resting * 1e3,
        "JSON p50 with 10 connections, ms": alone_ms,
        "with all, ms": crowded_ms,
    }


async def _leave(house: House, name: str, first: int) -> tuple[int, list[float]]:
    """How many clients left, and after how many milliseconds the upstream saw them go."""
    port, extra = house.port(name, SLOW), house.extra(name, SLOW)
    await asyncio.to_thread(_lost_ns, house)
    found: list[float] = []
    left = 0
    while left < _LEAVERS and left - len(found) < _MOST_UNSEEN:
        client = await connect(port)
        await client.begin(request(port, SLOW, first + left, extra))
        left, left_ns = left + 1, time.monotonic_ns()
        client.close()
        seen: list[int] = []
        while not seen and time.monotonic_ns() - left_ns < _GIVEN_UP_S * 1e9:
            await asyncio.sleep(0.02)
            seen = await asyncio.to_thread(_lost_ns, house)
        found += [(each - left_ns) / 1e6 for each in seen]
    return left, found


def _lost_ns(house: House) -> list[int]:
    with urllib.request.urlopen(f"http://127.0.0.1:{house.ports.upstream}/") as response:
        found: list[int] = json.load(response)["lost_ns"]
    return found


def _most_files() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _run(coroutine: Coroutine[Any, Any, Given]) -> Given:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)
