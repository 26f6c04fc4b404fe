"""The promise P0 at the level of the spool: kill -9 at any moment, and nothing that was acknowledged is lost or doubled."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

from capture import feed
from capture.database import open_database
from capture.filters import parse_filter
from capture.pricing import PriceTable
from capture.writer import StoreWriter

ROOT = Path(__file__).parents[2]
ROUNDS = 12
RELAY = """
import sys
from hashlib import sha256
from pathlib import Path
from capture import ids
from capture.records import Begin, End, Head
from capture.spool import SpoolWriter

spool = SpoolWriter(Path(sys.argv[1]), segment_bytes=30_000)
begin = Begin("POST", "/v1/chat/completions", "", "openai", is_stream=True, body=b'{"messages":[]}' + bytes(500))
done = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}\\n\\ndata: [DONE]\\n\\n'
say = sys.stdout.write
number = 0
while True:
    number += 1
    raw_id = ids.new_raw_id()
    id = ids.format_id("ex", raw_id)
    spool.begin(raw_id, begin)
    say(f"begun {id}\\n"); sys.stdout.flush()
    spool.head(raw_id, Head(200))
    spool.part(raw_id, b": " + bytes(number % 3000) + b"\\n\\n")
    if number % 5 == 0:
        continue  # a long stream that is still running when the end comes
    spool.part(raw_id, done)
    sha = sha256(b": " + bytes(number % 3000) + b"\\n\\n" + done).hexdigest()
    spool.end(raw_id, End(200, "complete", latency_us=1, response_sha256=sha))
    say(f"ended {id}\\n"); sys.stdout.flush()
"""


def run_and_kill(spool_root: Path, lines: int) -> list[tuple[str, str]]:
    """Starts a relay, kills it after so many acknowledgements, gives all that it acknowledged."""
    process = subprocess.Popen([sys.executable, "-c", RELAY, str(spool_root)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    got: list[str] = []
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            got.append(line)
            if len(got) == lines:
                process.kill()
    return [(line.split()[0], line.split()[1]) for line in got if line.endswith("\n")]


def test_after_kill_9_everything_acknowledged_is_stored_once_and_the_rest_is_interrupted(tmp_path: Path) -> None:
    spool_root = tmp_path / "spool"
    database = open_database(f"sqlite:///{tmp_path / 'potstill.db'}", is_checkpointer=True)
    chance = random.Random(7)
    stop = threading.Event()
    writer = StoreWriter(database, spool_root, PriceTable({}), poll_s=0.001)
    thread = threading.Thread(target=writer.run, args=(stop,))
    thread.start()
    said: list[tuple[str, str]] = []
    for _ in range(ROUNDS):
        said += run_and_kill(spool_root, chance.randint(2, 1_500))
    stop.set()
    thread.join()
    writer.close()

    stored = feed.page(database, parse_filter(""), limit=1_000_000)
    states = {exchange.id: exchange.state for exchange in stored}
    begun, ended = ({id for word, id in said if word == kind} for kind in ("begun", "ended"))
    database.close()
    assert len(said) > 1_000
    assert max(Counter(exchange.id for exchange in stored).values()) == 1
    assert begun - set(states) == set(), "lost"
    assert {states[id] for id in ended} == {"complete"}
    assert {exchange.latency_us for exchange in stored if exchange.id in ended} == {1}, "an END came too late"
    assert {states[id] for id in begun - ended} <= {"interrupted", "complete"}
    assert sum(state == "interrupted" for state in states.values()) >= len(begun) // 5 - ROUNDS
    # One per round may have been begun and not acknowledged any more.
    assert len(set(states) - begun) <= ROUNDS * 2
    assert [path.name for path in spool_root.iterdir()] == ["writer.lock"]
