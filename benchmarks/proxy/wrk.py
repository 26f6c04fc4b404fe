"""Saturates a contestant: wrk keeps a number of connections busy, no two requests alike."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.payloads import NO_ID
from benchmarks.proxy.traffic import body_template, head, users_of

_SCRIPT = Path(__file__).with_name("wrk.lua")
_PATIENCE_S = 20
_SLACK_S = 60


@dataclass(frozen=True, slots=True)
class Load:
    """What came of a load. `requests` were answered, `failed` not, or not with 200; `how` counts why."""

    requests: int
    seconds: float
    failed: int
    how: str
    p50_ms: float
    p99_ms: float


def wrk_path() -> str:
    """Where wrk is, '' when it is not on PATH."""
    return shutil.which("wrk") or ""


def saturate(
    folder: Path, port: int, scenario: str, seconds: int, connections: int, first: int, extra: Mapping[str, str]
) -> Load:
    """Keeps `connections` busy for `seconds`; requests are numbered from `first` on. RuntimeError when wrk fails."""
    script = folder / "requests"
    script.write_bytes(_requests(port, scenario, first, extra))
    command = [wrk_path(), "-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={_PATIENCE_S}s", "-s", str(_SCRIPT)]
    run = subprocess.run(
        [*command, f"http://127.0.0.1:{port}/"],
        env={**os.environ, "BENCH_REQUESTS": str(script)},
        capture_output=True,
        text=True,
        timeout=seconds + _SLACK_S,
        check=False,
    )
    for line in run.stdout.splitlines():
        if line.startswith("JSON "):
            return Load(**json.loads(line.removeprefix("JSON ")))
    raise RuntimeError(f"wrk said: {run.stdout[-300:]} {run.stderr[-300:]}")


def _requests(port: int, scenario: str, first: int, extra: Mapping[str, str]) -> bytes:
    body = body_template(scenario)
    heads = [head(port, scenario, user, extra, len(body)) for user in range(users_of(scenario))]
    parts = [b"%d\n%b\n%d\n" % (first, NO_ID, len(heads))]
    parts += [b"%d\n%b" % (len(each), each) for each in heads]
    return b"".join((*parts, body))
