"""Is everything in order: one finding for each part, with a next step where something is not."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from capture import clock
from capture.database import open_database
from capture.errors import PotstillError
from capture.health import read_health
from capture.settings import Settings
from proxy.settings import NO_KEY, RelaySettings, Upstream, read_upstreams
from serve.engine_state import FAILED, READY, read_state
from serve.settings import EngineSettings

OK, NOTE, BAD = "ok", "note", "bad"
_LEAST_FREE_GIB = 2
_WAL_RESET_MENDED = (3, 51, 3)


@dataclass(frozen=True, slots=True)
class Finding:
    """One part looked at. `verdict` is ok, note (works, worth knowing) or bad; `next_step` is empty when ok."""

    check: str
    verdict: str
    what: str
    next_step: str = ""


def examine(settings: Settings) -> list[Finding]:
    """Looks at everything; never raises for what it finds."""
    checks: list[tuple[str, Callable[[Settings], list[Finding]]]] = [
        ("python", _python),
        ("store", _store),
        ("disk", _disk),
        ("relay", _relay),
        ("upstreams", _upstreams),
        ("engine", _engine),
    ]
    findings = []
    for name, check in checks:
        try:
            findings += check(settings)
        except PotstillError as error:
            findings.append(Finding(name, BAD, error.what, error.next_step))
    return findings


def _python(_settings: Settings) -> list[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] != (3, 11):
        return [
            Finding("python", BAD, f"Python {version}; Potstill is built for 3.11.", "Make .venv with Python 3.11: make install")
        ]
    return [Finding("python", OK, f"Python {version}")]


def _store(settings: Settings) -> list[Finding]:
    database = open_database(settings.database_url)
    try:
        health = read_health(database, settings.data_folder / "spool", now_us=clock.now_us())
        findings = [Finding("store", OK, f"{database.engine.url.render_as_string(hide_password=True)} is open and up to date")]
    finally:
        database.close()
    if database.is_sqlite and sqlite3.sqlite_version_info < _WAL_RESET_MENDED:
        findings.append(
            Finding(
                "sqlite",
                NOTE,
                f"SQLite {sqlite3.sqlite_version}: before 3.51.3, two connections that reset the WAL at once can corrupt it. "
                "Of ours only the store writer does.",
                "Let no other program checkpoint potstill.db; for many writers use PostgreSQL ([store] database_url).",
            )
        )
    if health.behind_us:
        findings.append(
            Finding(
                "writer",
                BAD,
                f"The store is {health.behind_us / 1e6:.0f} s behind the spool.",
                "Start the store writer: potstill up",
            )
        )
    else:
        findings.append(Finding("writer", OK, "nothing waits in the spool"))
    if health.lost or health.dead_letters:
        findings.append(
            Finding(
                "losses",
                BAD,
                f"{health.lost} exchanges were dropped and {health.dead_letters} could not be stored, since the store was made.",
                "Look at the tables gaps and dead_letters: each row says when and why.",
            )
        )
    else:
        findings.append(Finding("losses", OK, "nothing was ever dropped"))
    return findings


def _disk(settings: Settings) -> list[Finding]:
    free_gib = shutil.disk_usage(settings.data_folder).free / 2**30
    what = f"{free_gib:.0f} GiB free at {settings.data_folder}"
    return [
        Finding("disk", BAD, what, "Make room: the spool needs it when the store is away.")
        if free_gib < _LEAST_FREE_GIB
        else Finding("disk", OK, what)
    ]


def _relay(settings: Settings) -> list[Finding]:
    relay = settings.section("relay", RelaySettings)
    address = f"http://{relay.host}:{relay.admin_port}/health/ready"
    try:
        answer = httpx.get(address, timeout=3)
        return [Finding("relay", OK, f"up on {relay.host}:{relay.port}, {answer.text.strip()[:120]}")]
    except httpx.HTTPError:
        pass
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((relay.host, relay.port))
        except OSError as error:
            return [
                Finding(
                    "relay",
                    BAD,
                    f"not up, and port {relay.port} cannot be had: {error.strerror}.",
                    "End who holds it, or set [relay] port.",
                )
            ]
    return [Finding("relay", NOTE, f"not up; port {relay.port} is free", "Start it: potstill up")]


def _upstreams(settings: Settings) -> list[Finding]:
    return [_upstream(upstream) for upstream in read_upstreams(settings).values()]


def _upstream(upstream: Upstream) -> Finding:
    check = f"upstream {upstream.name}"
    if upstream.key_variable and not os.environ.get(upstream.key_variable):
        next_step = f"export {upstream.key_variable}=..., or set [upstreams.{upstream.name}] key."
        return Finding(check, BAD, f"its key is missing: ${upstream.key_variable} is not set.", next_step)
    try:
        httpx.get(upstream.root, timeout=5)
    except httpx.HTTPError as error:
        what = f"{upstream.root} cannot be reached: {type(error).__name__}: {error}"
        return Finding(check, BAD, what, f"Check the network, or [upstreams.{upstream.name}] url.")
    key = "needs no key" if upstream.key == NO_KEY else f"key from {upstream.key}"
    return Finding(check, OK, f"{upstream.root} answers ({upstream.protocol}, {key})")


def _engine(settings: Settings) -> list[Finding]:
    engine = settings.section("engine", EngineSettings)
    if engine.is_external:
        from serve.engine import EngineClient

        with EngineClient(engine.address) as client:
            if client.health():
                return [Finding("engine", OK, f"{engine.address} answers")]
        return [Finding("engine", BAD, f"{engine.address} does not answer.", "Start it there, or mend [engine] url.")]
    state = read_state(settings.data_folder)
    if state is None:
        has_vllm = (Path(sys.executable).parent / "vllm").exists()
        what = "never started" if has_vllm else "never started; vLLM is not installed"
        return [Finding("engine", NOTE, what, "Start it when you have a release: potstill engine --base-model NAME")]
    if state.state == FAILED:
        return [Finding("engine", BAD, f"failed: {state.message}", f"See {settings.data_folder / 'engine' / 'output.txt'}")]
    verdict = OK if state.state == READY else NOTE
    return [
        Finding(
            "engine",
            verdict,
            f"{state.state} at {state.url} with {state.base_model}",
            "" if verdict == OK else "Start it: potstill engine",
        )
    ]
