"""Traffic for a large store: many exchanges of a few tasks that share their system prompts, and what reading it then takes."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path
from statistics import median

from benchmarks.exchanges import Made, spool_exchanges
from benchmarks.payloads import numbered
from benchmarks.processes import resident_mib
from capture import feed
from capture.database import Database, open_database
from capture.filters import parse_filter
from capture.pricing import PriceSettings, load_price_table
from capture.writer import StoreWriter

CHUNK = 20_000
"""Exchanges that wait in the spool at a time."""
_TASKS, _USERS, _NAMES, _RARE_EVERY, _FAILED_EVERY = 20, 5_000, 2_000, 10_000, 100
PAGE_FILTERS = (
    "task:task03",
    "task:task03 status>=400",
    "status>=400",
    "user:u00042",
    "task:task03 user:u00042",
    "task:task03 state:truncated",
    "model:gpt-* -task:task03",
    "cost>1",
)
SEARCH_FILTERS = ('"refund"', '"needle"', '"could not"', 'task:task03 "needle"', '"refund" "needle"')
_REPEATS = 5


@dataclass(frozen=True, slots=True)
class Filled:
    """A store after so many exchanges: bytes of their bodies, bytes on disk, and the writer's memory after each chunk."""

    exchanges: int
    raw_bytes: int
    stored_bytes: int
    cpu_s: float
    resident_mib: tuple[float, ...]


_COMMON = (
    "the to and I my is it in of for a you not that on was have with but this order me please be can your are at we has "
    "still no from been would so will do when as what if they parcel just get out back received yet day account help need "
    "money one refund could two days says after because only week there email all more now time card number again had which "
    "about tracking delivery address payment wrong box item sent got page delivered late charged customer does any how want "
    "send new their said last who up an first by waiting or asked before paid service know shipping here were cannot am why "
    "some shop today return phone password since log code went changed ordered product very date broken color size ago "
    "price them neighbour missing open thanks hello regards monday tuesday friday month try tried link app website screen "
    "error works bought gift discount invoice cancel subscription renewed plan bank statement twice once exchange label "
    "store warehouse damaged packaging photo picture attached reply answer somebody call called told promise three four "
    "hours minutes morning evening weekend house door street city country customs office pick point driver left right side "
    "bottom top small large red blue green black white shoes shirt jacket lamp chair table sofa kettle charger cable "
    "battery keyboard laptop"
)


@cache
def vocabulary() -> tuple[list[str], list[float]]:
    """Words of customers, by Zipf's law, and made-up names and codes: one word in twenty."""
    chance = random.Random(4)
    letters = "aeioutnrslcdmpgbhfvk"
    common_words = _COMMON.split()
    words = [*common_words, *("".join(chance.choices(letters, k=chance.randint(4, 9))) for _ in range(_NAMES))]
    common = [1 / (rank + 10) for rank in range(len(common_words))]
    return words, list(accumulate([*common, *[sum(common) / 19 / _NAMES] * _NAMES]))


def text(chance: random.Random, count: int) -> str:
    """`count` words, the common ones often, and a number."""
    words, weights = vocabulary()
    return " ".join(chance.choices(words, cum_weights=weights, k=count)) + f" {chance.randrange(10**6)}"


def made_traffic(start: int, count: int, prompt_words: int, system_bytes: int) -> Iterator[Made]:
    """Exchanges `start` to `start + count` of `_TASKS` tasks, each task with a system prompt of its own."""
    chance = random.Random(start)
    prompts = [_system_prompt(number, system_bytes) for number in range(_TASKS)]
    for number in range(start, start + count):
        task = number % _TASKS
        asked = text(chance, prompt_words) + (" needle" if number % _RARE_EVERY == 0 else "")
        messages = [{"role": "system", "content": prompts[task]}, {"role": "user", "content": asked}]
        request = json.dumps({"model": "gpt-4o-mini", "messages": messages, "temperature": 0, "max_tokens": 200}).encode()
        answer = numbered(_answer(text(chance, 20)), number)
        status = 429 if number % _FAILED_EVERY == 7 else 200
        yield Made(f"task{task:02d}", f"u{chance.randrange(_USERS):05d}", request, (answer,), status=status)


def fill(folder: Path, count: int, prompt_words: int, system_bytes: int, tell: Callable[[str], None]) -> Filled:
    """Stores `count` exchanges in a new SQLite store under `folder`, through spool and store writer, in chunks."""
    database = open_database(f"sqlite:///{folder / 'potstill.db'}", is_checkpointer=True)
    writer = StoreWriter(database, folder / "spool", load_price_table(PriceSettings()))
    raw_bytes, cpu_s, memory = 0, 0.0, list[float]()
    try:
        for start in range(0, count, CHUNK):
            end = min(start + CHUNK, count)
            raw_bytes += _spool(folder / "spool", start, end, prompt_words, system_bytes)
            before = time.process_time()
            writer.drain()
            cpu_s += time.process_time() - before
            memory.append(resident_mib())
            tell(f"{end:,} exchanges: {end / cpu_s:.0f} / CPU s, {memory[-1]:.0f} MiB resident")
        with database.read() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").all()
    finally:
        writer.close()
        database.close()
    return Filled(count, raw_bytes, (folder / "potstill.db").stat().st_size, cpu_s, tuple(memory))


def _spool(root: Path, start: int, end: int, prompt_words: int, system_bytes: int) -> int:
    """Spools exchanges `start` to `end` one by one; bytes of their bodies."""
    size = 0

    def counted() -> Iterator[Made]:
        nonlocal size
        for each in made_traffic(start, end - start, prompt_words, system_bytes):
            size += len(each.request) + sum(map(len, each.parts))
            yield each

    spool_exchanges(root, counted())
    return size


def read_ms(database: Database, filter: str) -> float:
    """Milliseconds for the newest 100 exchanges that match, the median of five."""
    found = parse_filter(filter)
    took = []
    for _ in range(_REPEATS):
        before = time.perf_counter()
        feed.page(database, found, limit=100)
        took.append((time.perf_counter() - before) * 1e3)
    return median(took)


def _system_prompt(number: int, size: int) -> str:
    chance = random.Random(-number - 1)
    prompt = f"You are assistant {number}."
    while len(prompt) < size:
        prompt += " " + text(chance, 40) + "."
    return prompt[:size]


def _answer(said: str) -> bytes:
    """An answer as OpenAI spells it."""
    message: dict[str, object] = {"role": "assistant", "content": said, "refusal": None, "annotations": []}
    prompt = {"cached_tokens": 0, "audio_tokens": 0}
    completion = {"reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}
    answer = {
        "id": "chatcmpl-bench000000000000",
        "object": "chat.completion",
        "created": 1_760_000_000,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": 1900,
            "completion_tokens": 40,
            "total_tokens": 1940,
            "prompt_tokens_details": prompt,
            "completion_tokens_details": completion,
        },
        "service_tier": "default",
        "system_fingerprint": "fp_0123456789",
    }
    return json.dumps(answer, separators=(",", ":")).encode()
